"""The first boot: what the scripts make of cloud-init's words, and what the wait makes of the hosts' answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuctl.phases import provision
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, GpuctlError
from gpuctl.spec.load import load
from gpuctl.spec.resolved import Node
from gpuctl.systems.ssh import Completed, HostKeyChanged, Refused

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
assert SPEC
ERROR = "status: error\nextended_status: error - done\ndetail: apt failed"
DEGRADED = "status: done\nextended_status: degraded done\nrecoverable_errors: {WARNING: [x]}"


def run(script: str, folder: Path, state: str, long: str, code: int) -> subprocess.CompletedProcess[str]:
    tool = folder / "cloud-init"
    tool.write_text(
        f"#!/bin/sh\ncase $2 in --long) echo '{long}' ;; *) echo 'status: {state}' ;; esac\nexit {code}\n",
        encoding="utf-8",
    )
    tool.chmod(0o755)
    script = script.replace("/run/reboot-required", f"{folder}/reboot-required")
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("script", [provision._FIRST_BOOT, provision._STATE + provision._NO_REBOOT])
@pytest.mark.parametrize(
    ("state", "long", "code", "says", "ends"),
    [
        ("done", "", 0, "", 0),
        ("done", DEGRADED, 2, DEGRADED, 0),
        ("error", ERROR, 1, ERROR, provision.BOOT_FAILED),
        ("running", "", 0, "status: running", 1),
        ("not started", "", 0, "status: not started", 1),
    ],
)
def test_plan_and_apply_read_cloud_init_alike(
    tmp_path: Path, script: str, state: str, long: str, code: int, says: str, ends: int
) -> None:
    done = run(script, tmp_path, state, long, code)
    assert (done.stdout.strip(), done.returncode) == (says, ends)


def test_a_host_that_wants_a_reboot_is_not_done_in_a_plan(tmp_path: Path) -> None:
    (tmp_path / "reboot-required").touch()
    assert run(provision._STATE + provision._NO_REBOOT, tmp_path, "done", "", 0).returncode == 1


def wait(answers: Callable[[Node], Completed | GpuctlError], names: Iterable[str]) -> list[str]:
    """What was said as a warning until the wait ended."""
    warned = []

    def say(kind: str, message: str, **_: object) -> None:
        if kind == "warning":
            warned.append(message)

    def run_all(nodes: Iterable[Node], _script: object, *, deadline: Deadline) -> dict[str, Completed | GpuctlError]:
        return {node.name: answers(node) for node in nodes}

    ctx: Any = SimpleNamespace(spec=SPEC, say=say, ssh=SimpleNamespace(run_all=run_all), deadline=Deadline.after)
    provision.Provision()._wait_for_hosts(ctx, set(names))
    return warned


def test_a_failed_first_boot_ends_the_wait_with_its_cause() -> None:
    with pytest.raises(GpuctlError, match="the first boot of cp1 failed") as caught:
        wait(lambda _: Completed(provision.BOOT_FAILED, f"{ERROR}\n", ""), ["cp1"])
    assert caught.value.cause == ERROR
    assert caught.value.next.endswith("gpuctl apply --replace cp1")


def test_a_first_boot_that_recovered_is_done_with_a_warning() -> None:
    (warned,) = wait(lambda _: Completed(0, f"{DEGRADED}\n", ""), ["cp1"])
    assert "cp1" in warned
    assert DEGRADED in warned


def test_another_host_key_ends_the_wait_at_once() -> None:
    changed = HostKeyChanged("cp1 shows another SSH host key than before", next="ssh-keygen -R")
    with pytest.raises(HostKeyChanged) as caught:
        wait(lambda node: changed if node.name == "cp1" else Completed(1, "", ""), ["cp1", "cp2"])
    assert caught.value is changed


def test_a_refusal_is_waited_for_but_not_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "SSH_EVERY", 0.02)
    monkeypatch.setattr(provision, "REFUSED_SECONDS", 0.2)
    answers: list[Completed | GpuctlError] = [Refused("no"), GpuctlError("no answer"), Refused("no")]
    asked = iter([*answers, Completed(0, "", "")])
    wait(lambda _: next(asked), ["cp1"])
    with pytest.raises(Refused):
        wait(lambda _: Refused("no"), ["cp1"])


def test_a_wait_that_runs_out_says_how_long_and_for_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "SSH_EVERY", 0.02)
    monkeypatch.setattr(provision, "FIRST_BOOT_SECONDS", 0.1)
    silent = GpuctlError("cp1 does not answer on SSH", cause="No route to host", next="look at the console")
    with pytest.raises(DeadlineExceeded, match="not done within 0 s") as caught:
        wait(lambda _: silent, ["cp1", "cp2", "cp3"])
    assert caught.value.where.endswith("and 2 other hosts")
    assert caught.value.cause == "cp1 does not answer on SSH\nNo route to host"
    assert caught.value.next == "look at the console"
