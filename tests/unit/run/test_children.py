"""Children that outlive their run, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl.run import children
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import Workspace

# notes each interrupt and ends at the second one, as Terraform does
STUBBORN = """
import signal, sys, time
seen = []
def note(*_):
    seen.append(1)
    print("asked", len(seen), file=open(sys.argv[1], "a"), flush=True)
    if len(seen) > 1:
        raise SystemExit(1)
signal.signal(signal.SIGINT, note)
print("ready", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    time.sleep(0.1)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    made.create()
    return made


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path / "asked")], stdout=subprocess.PIPE, text=True
    ) as found:
        assert found.stdout
        assert found.stdout.readline() == "ready\n"
        yield found
        found.kill()


def orphaned(workspace: Workspace, pid: int) -> None:
    """As a run that was killed leaves its record."""
    children.Child(pid, children.start_time(pid) or 0, "terraform apply", 2**22, 1).save(workspace)


def test_a_child_of_a_dead_run_is_asked_once_however_often_the_next_one_waits(
    workspace: Workspace, process: subprocess.Popen[str], tmp_path: Path
) -> None:
    orphaned(workspace, process.pid)
    said: list[str] = []
    for _ in range(3):
        with pytest.raises(GpuctlError, match="is still running") as caught:
            children.settle(workspace, Deadline.after(0.7, "waiting"), said.append)
        assert caught.value.exit_code == Exit.LOCKED
    assert (tmp_path / "asked").read_text() == "asked 1\n"
    assert ["it was asked to stop" in words for words in said] == [False, True, True]
    process.kill()
    process.wait()
    children.settle(workspace, Deadline.after(5, "waiting"), said.append)
    assert (len(said), list(workspace.children.iterdir())) == (3, [])


def test_a_child_that_its_own_run_interrupted_is_not_asked_again(
    workspace: Workspace, process: subprocess.Popen[str], tmp_path: Path
) -> None:
    with children.recorded(workspace, process.pid, "terraform apply") as interrupt:
        interrupt()
        interrupt()
    (record,) = workspace.children.iterdir()
    record.write_text(record.read_text().replace(f'"owner": {os.getpid()}', f'"owner": {2**22}'))
    with pytest.raises(GpuctlError, match="is still running"):
        children.settle(workspace, Deadline.after(0.7, "waiting"), print)
    assert (tmp_path / "asked").read_text() == "asked 1\n"


def test_the_children_of_a_run_that_goes_on_are_left_alone(
    workspace: Workspace, process: subprocess.Popen[str], tmp_path: Path
) -> None:
    with children.recorded(workspace, process.pid, "terraform plan"):
        children.settle(workspace, Deadline.after(5, "waiting"), print)
        assert process.poll() is None
        assert len(list(workspace.children.iterdir())) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(workspace.children.iterdir()) == []
    assert not (tmp_path / "asked").exists()


def test_a_record_that_cannot_be_read_is_forgotten(workspace: Workspace) -> None:
    workspace.children.mkdir()
    (workspace.children / "1-1.json").write_text("{")
    children.settle(workspace, Deadline.after(5, "waiting"), print)
    assert list(workspace.children.iterdir()) == []
