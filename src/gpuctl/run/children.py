"""Children of a run that could outlive it (Terraform, Ansible, Helm, git): a record each, by pid and start time.

The next run deals with those of dead runs before it touches anything; those of runs that go on are theirs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import Workspace, on_disk, write_private

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


@dataclass(frozen=True)
class Child:
    """``owner``: the run that started it. ``asked``: it was interrupted, which happens once.

    A second SIGINT, or a SIGKILL, would make Terraform lose VMs it is creating.
    """

    pid: int
    start: int
    name: str
    owner: int
    owner_start: int
    asked: bool = False

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.start

    @property
    def orphan(self) -> bool:
        return start_time(self.owner) != self.owner_start

    def record(self, workspace: Workspace) -> Path:
        """A file of its own: two runs, or two threads, never write the same one."""
        return workspace.children / f"{self.pid}-{self.start}.json"

    def save(self, workspace: Workspace) -> None:
        write_private(self.record(workspace), json.dumps(asdict(self)) + "\n")

    def interrupt(self, workspace: Workspace) -> None:
        """Ask it to stop, unless it was asked before."""
        if not _recorded(self.record(workspace), self).asked and self.alive:
            replace(self, asked=True).save(workspace)
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)


def _recorded(path: Path, otherwise: Child) -> Child:
    try:
        return Child(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return otherwise


@contextmanager
def recorded(workspace: Workspace, pid: int, name: str) -> Iterator[Callable[[], None]]:
    """Keep a record of the child while the block runs, and beyond it while the child does; gives what interrupts it."""
    child = Child(pid, start_time(pid) or 0, name, os.getpid(), start_time(os.getpid()) or 0)
    child.save(workspace)
    try:
        yield partial(child.interrupt, workspace)
    finally:
        if not child.alive:
            child.record(workspace).unlink(missing_ok=True)


def settle(workspace: Workspace, deadline: Deadline, say: Callable[[str], None]) -> None:
    """Deal with children of runs that are no more: interrupt each once, then wait for its end.

    Raises GpuctlError (exit 5) when one is still there at the deadline.
    """
    nobody = Child(0, 0, "", 0, 0)
    for path in sorted(workspace.children.glob("*.json")):
        child = _recorded(path, nobody)
        if child.alive and not child.orphan:
            continue
        if child.alive:
            doing = "it was asked to stop" if child.asked else "asking it to stop"
            say(f"a killed run left {child.name} running (pid {child.pid}): {doing}, waiting for it")
            child.interrupt(workspace)
            if not deadline.until(lambda child=child: not child.alive, every=0.5):  # type: ignore[misc]
                raise GpuctlError(
                    f"{child.name} of an earlier run (pid {child.pid}) is still running",
                    where=str(workspace.root),
                    cause="the run that started it was killed",
                    next=f"wait for it to end (ps -p {child.pid}), then run the same command again",
                    exit_code=Exit.LOCKED,
                )
        path.unlink(missing_ok=True)


def own_folder(parent: Path) -> Path:
    """A folder for this run alone, which its maker removes; what killed runs left in ``parent`` goes now."""
    for old in parent.glob("run-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdecimal() and start_time(int(pid)) is None:
            shutil.rmtree(old, ignore_errors=True)
    with on_disk("make a folder for this run", parent):
        return Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=parent))


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


def finish(process: subprocess.Popen[str], deadline: Deadline, interrupt: Callable[[], None]) -> tuple[str, str]:
    """What it says on both streams until its end. Interrupted once when we are or when time is up, never killed.

    After that interrupt it has GRACE_SECONDS; a child that ignores it is left running, recorded for the next run.
    """
    interrupted_at = 0.0
    while True:
        try:
            return process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            if not interrupted_at and (deadline.expired or deadline.stop.is_set()):
                interrupt()
                interrupted_at = time.monotonic()
            elif interrupted_at and time.monotonic() - interrupted_at > GRACE_SECONDS:
                raise GpuctlError(
                    f"pid {process.pid} does not stop", next="the next run waits for it; ps shows what it is"
                ) from None
