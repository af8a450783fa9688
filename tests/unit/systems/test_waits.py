"""No wait for a tool is without an end, whatever the tool does: real processes that do not listen."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gpuctl.run import children
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, GpuctlError
from gpuctl.run.workspace import Workspace
from gpuctl.spec.load import load
from gpuctl.systems import ssh, terraform

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
assert SPEC
(NODE, *_) = SPEC.nodes
DEAF = "trap '' INT TERM; echo $$ >>{pids}; sleep 30"


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """A file in which processes note their ids (each leads its own group); they are gone after the test."""
    yield tmp_path / "pids"
    for pid in (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else ():
        try:
            os.killpg(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def deaf_ssh(tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch) -> ssh.Ssh:
    tool = tmp_path / "bin/ssh"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{DEAF.format(pids=pids)}\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(ssh, "END_SECONDS", 0.3)
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1)
    workspace = Workspace(tmp_path / "workspace")
    workspace.create()
    return ssh.Ssh("gpuctl", workspace)


def test_an_ssh_that_does_not_end_is_left_after_the_deadline(deaf_ssh: ssh.Ssh) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        deaf_ssh.run(NODE, "true", deadline=Deadline.after(1.0, "asking"))
    assert time.monotonic() - started < 20


def test_a_master_that_does_not_answer_does_not_keep_a_host_from_being_forgotten(deaf_ssh: ssh.Ssh) -> None:
    started = time.monotonic()
    deaf_ssh.forget(NODE)
    assert time.monotonic() - started < 20


def popen(script: str, folder: Path) -> subprocess.Popen[str]:
    return children.popen(["sh", "-c", script], cwd=folder, environment=os.environ)


def lines(process: subprocess.Popen[str], seconds: float) -> list[str]:
    deadline = Deadline.after(seconds, "terraform")
    return list(terraform._lines(process, deadline, partial(process.send_signal, signal.SIGINT)))


def test_a_terraform_that_does_not_stop_is_told(tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terraform, "GRACE_SECONDS", 0.5)
    process = popen(DEAF.format(pids=pids), tmp_path)
    started = time.monotonic()
    with pytest.raises(GpuctlError, match="does not stop"):
        lines(process, 1.0)
    assert time.monotonic() - started < 20
    assert process.poll() is None  # it may be making a VM: never killed


def test_one_interrupt_ends_a_terraform_that_listens(tmp_path: Path, pids: Path) -> None:
    script = f"echo $$ >>{pids}; trap 'echo stopping; exit 1' INT; echo busy; while :; do sleep 0.1; done"
    process = popen(script, tmp_path)
    assert lines(process, 2.0) == ["busy\n", "stopping\n"]
    assert process.returncode == 1


def test_every_line_is_read_and_a_held_output_does_not_hold_us(
    tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terraform, "DRAIN_SECONDS", 0.5)
    process = popen(f"echo $$ >>{pids}; sleep 30 & seq 20000", tmp_path)
    started = time.monotonic()
    assert len(lines(process, 60.0)) == 20000
    assert time.monotonic() - started < 20
