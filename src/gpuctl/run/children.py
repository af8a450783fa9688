"""Children of a run that could outlive it (Terraform, Ansible), recorded by pid and start time.

The next run deals with them before it touches anything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import Workspace, write_private

GRACE_SECONDS = 120.0


def start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, clock ticks since boot: with the pid it names a process for good.

    None: no such process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    state_and_rest = text[text.rindex(")") + 2 :].split()
    return None if state_and_rest[0] in "ZX" else int(state_and_rest[19])


def _recorded(workspace: Workspace) -> list[tuple[int, int, str]]:
    try:
        entries = json.loads(workspace.children.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [(int(entry["pid"]), int(entry["start"]), str(entry["name"])) for entry in entries]


def _record(workspace: Workspace, entries: list[tuple[int, int, str]]) -> None:
    rows = [{"pid": pid, "start": start, "name": name} for pid, start, name in entries]
    write_private(workspace.children, json.dumps(rows))


def alive(workspace: Workspace) -> list[tuple[int, int, str]]:
    """Recorded children that still run: (pid, start, name)."""
    return [entry for entry in _recorded(workspace) if start_time(entry[0]) == entry[1]]


@contextmanager
def recorded(workspace: Workspace, pid: int, name: str) -> Iterator[None]:
    """Keep a record of the child while the block runs, and beyond it while the child does."""
    started = start_time(pid)
    if started is not None:
        _record(workspace, [*alive(workspace), (pid, started, name)])
    try:
        yield
    finally:
        _record(workspace, alive(workspace))


def settle(workspace: Workspace, deadline: Deadline, say: Callable[[str], None]) -> None:
    """Deal with children that a killed run left behind: interrupt them once, then wait for them to end.

    A second SIGINT or a SIGKILL would make Terraform lose VMs it is creating, so there is only the one.
    Raises GpuctlError (exit 5) when one is still there at the deadline.
    """
    for pid, start, name in alive(workspace):
        say(f"a killed run left {name} running (pid {pid}): asking it to stop, waiting for it")
        try:
            os.kill(pid, signal.SIGINT)
        except ProcessLookupError:
            continue

        if not deadline.until(lambda pid=pid, start=start: start_time(pid) != start, every=0.5):  # type: ignore[misc]
            raise GpuctlError(
                f"{name} of an earlier run (pid {pid}) is still running",
                where=str(workspace.root),
                cause="the run that started it was killed",
                next=f"wait for it to end (ps -p {pid}), then run the same command again",
                exit_code=Exit.LOCKED,
            )


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment plus ``extra``, without what would change how tools print."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TF_LOG", "ANSIBLE_"))}
    return {**kept, **extra}


def popen(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], stderr: int = subprocess.STDOUT
) -> subprocess.Popen[str]:
    """Start a tool in a session of its own, so that Ctrl-C reaches us only and we forward it once.

    Raises GpuctlError when the tool is missing.
    """
    try:
        return subprocess.Popen(
            list(arguments),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
            start_new_session=True,
            umask=0o077,
        )
    except FileNotFoundError:
        raise GpuctlError(
            f"{arguments[0]} is not installed", next=f"install {arguments[0]} or put it on PATH"
        ) from None


def finish(process: subprocess.Popen[str], deadline: Deadline) -> tuple[str, str]:
    """What it says on both streams until its end. Interrupted once when we are or when time is up, never killed.

    After that interrupt it has GRACE_SECONDS; a child that ignores it is left running, recorded for the next run.
    """
    interrupted_at = 0.0
    while True:
        try:
            return process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            if not interrupted_at and (deadline.expired or deadline.stop.is_set()):
                process.send_signal(signal.SIGINT)
                interrupted_at = time.monotonic()
            elif interrupted_at and time.monotonic() - interrupted_at > GRACE_SECONDS:
                raise GpuctlError(
                    f"pid {process.pid} does not stop", next="the next run waits for it; ps shows what it is"
                ) from None
