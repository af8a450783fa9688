"""What the modules of gpuctl share: noting differences, atomic files, commands with a deadline, one run at a time.

Runs on the hosts with their own Python (3.10 and later, standard library only).
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOCK = "/run/gpuctl.lock"
SECRET_LINE = re.compile(r"^(\s*(?:agent-)?token:).*$", re.MULTILINE)


class Refused(Exception):
    """The host cannot be brought to the wanted state: what, the likely cause, and what to do next."""

    def __init__(self, what: str, cause: str = "", next: str = "", **details: object) -> None:
        super().__init__(what)
        self.result: dict[str, object] = {"msg": what, "cause": cause, "next": next, **details}


class State:
    """The host as it is being changed, or in check mode only compared.

    ``touched``: files whose readers have not been restarted yet. With ``pending`` they are kept in that file, so that
    a run that ends between writing and restarting leaves the restart to the next one; a reboot settles them too.
    """

    def __init__(self, check: bool, deadline: float, pending: Path | None = None) -> None:
        self.check = check
        self.deadline = deadline
        self.changes: list[str] = []
        self.diffs: list[dict[str, str]] = []
        self._pending = pending
        self.touched: set[str] = set(pending.read_text().splitlines()) if pending and pending.exists() else set()

    def touch(self, path: str) -> None:
        """The file is about to differ from what its readers have read."""
        self.touched.add(path)
        if self._pending and not self.check:
            write(self._pending, "".join(f"{name}\n" for name in sorted(self.touched)), 0o600)

    def settled(self) -> None:
        """Everything that reads the touched files was restarted."""
        if self._pending and not self.check:
            self._pending.unlink(missing_ok=True)

    @property
    def left(self) -> float:
        """Seconds left of this call."""
        return max(0.0, self.deadline - time.monotonic())

    def note(self, what: str, before: str = "", after: str = "", about: str = "") -> bool:
        """Something differs (and is about to be changed). Whether to go on and change it."""
        self.changes.append(what)
        if before or after:
            header = about or what
            self.diffs.append({"before_header": header, "after_header": header, "before": before, "after": after})
        return not self.check

    def run(
        self, arguments: Sequence[str], *, seconds: float = 60, environment: Mapping[str, str] | None = None
    ) -> str:
        """The command's standard output; Refused when it fails or takes too long."""
        done = self.attempt(arguments, seconds=seconds, environment=environment)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise Refused(f"{' '.join(arguments)}: exit {done.returncode}", cause="\n".join(said[-5:]))
        return done.stdout

    def attempt(
        self, arguments: Sequence[str], *, seconds: float = 60, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command's result, whatever its exit code; Refused when it is missing or takes too long."""
        try:
            return subprocess.run(
                list(arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=max(1.0, min(seconds, self.left)),
                env={**os.environ, "LC_ALL": "C", **(environment or {})},
                check=False,
            )
        except FileNotFoundError:
            raise Refused(f"{arguments[0]} is not installed on the host") from None
        except subprocess.TimeoutExpired:
            raise Refused(f"{' '.join(arguments)}: no end within {min(seconds, self.left):.0f} s") from None

    def file(self, path: str, content: str, mode: int = 0o644) -> bool:
        """Make the file so, atomically; whether it differed. Owner root. Tokens never appear in the diff."""
        target = Path(path)
        try:
            status = target.stat()
            before: str | None = target.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            status, before = None, None
        if before == content and status is not None:
            if status.st_mode & 0o7777 != mode or status.st_uid or status.st_gid:
                self.touch(path)
                if self.note(f"mode of {path}", f"{status.st_mode & 0o7777:04o}\n", f"{mode:04o}\n", path):
                    os.chown(path, 0, 0)
                    target.chmod(mode)
                return True
            return False
        self.touch(path)
        if self.note(path, SECRET_LINE.sub(r"\1 ...", before or ""), SECRET_LINE.sub(r"\1 ...", content)):
            write(target, content, mode)
        return True

    def absent(self, path: str, mark: str) -> bool:
        """Remove the file if it begins with our mark; whether it was there. Others' files stay."""
        target = Path(path)
        before = target.read_text(encoding="utf-8", errors="replace") if target.exists() else ""
        if not before.startswith(mark):
            return False
        self.touch(path)
        if self.note(f"{path} removed", SECRET_LINE.sub(r"\1 ...", before), "", path):
            target.unlink()
        return True

    def block(self, path: str, content: str) -> bool:
        """Keep our lines between marks in a file that others write too."""
        begin, end = "# begin gpuctl", "# end gpuctl"
        target = Path(path)
        before = target.read_text(encoding="utf-8") if target.exists() else ""
        mode = target.stat().st_mode & 0o7777 if target.exists() else 0o644
        head, _, rest = before.partition(f"{begin}\n")
        tail = rest.partition(f"{end}\n")[2]
        if head and not head.endswith("\n"):
            head += "\n"
        return self.file(path, f"{head}{begin}\n{content}{end}\n{tail}", mode)


def refuse_other_host(node: str) -> None:
    """A connection that ends on another host than it should must never change anything there."""
    here = os.uname().nodename.split(".")[0]
    if here != node:
        raise Refused(
            f"the host that answers as {node} is {here}",
            cause="an address is used twice, or a shared SSH connection leads to the wrong host",
            next="check network addresses and the VM's hostname; then run the same command again",
        )


def write(target: Path, content: str, mode: int) -> None:
    """Write atomically: a host that dies leaves the old file or the new one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.gpuctl")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(target)


@contextmanager
def alone(state: State) -> Iterator[None]:
    """Wait for what an abandoned run may still be doing on this host. Comparing needs no lock."""
    if state.check:
        yield
        return
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not state.left:
                    holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
                    raise Refused(
                        "an earlier run is still working on this host",
                        cause=f"process {holder} holds {LOCK}",
                        next=f"look at it (ps -p {holder}); end it if it hangs, then run the same command again",
                    ) from None
                time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        # commands do not inherit the descriptor (PEP 446), so the lock ends with this process
        yield
    finally:
        os.close(descriptor)


def units(state: State, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What systemd knows of each unit: LoadState, ActiveState, SubState, UnitFileState, NRestarts, Result."""
    properties = "Id,LoadState,ActiveState,SubState,UnitFileState,NRestarts,Result"
    found: dict[str, dict[str, str]] = {}
    for name in names:
        text = state.run(["systemctl", "show", f"--property={properties}", name])
        found[name] = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    return found
