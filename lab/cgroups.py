"""Control groups of the lab: one group per host in every hierarchy, below the group we are in ourselves.

systemd in a host needs a root of its own in each hierarchy (SYSTEMD_NSPAWN_USE_CGNS), so its nspawn has to be moved
into a sub-group of all of them before it starts. Works on cgroup v1 and hybrid machines; a pure v2 machine is one
hierarchy of the same kind (never tried).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

GROUP = "gpuctl-lab"


def _hierarchies() -> Iterator[tuple[Path, str]]:
    """(mount point, our own path in it) of every cgroup hierarchy."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller.removeprefix("name=")] = path
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        kind = rest.split()[0]
        mount = Path(fields.split()[4])
        if kind == "cgroup2":
            yield mount, own.get("", "/")
        elif kind == "cgroup":
            yield mount, own.get(mount.name.split(",")[0], "/")


def below(folder: Path, *, deepest_first: bool = False) -> Iterator[Path]:
    """The folder and every one in it. One that goes while this looks is passed over (Path.rglob would raise)."""
    for path, _, _ in os.walk(folder, topdown=not deepest_first):
        yield Path(path)


def _base() -> list[Path]:
    """The lab's group in every hierarchy; found again by scanning, because a later caller may be in other groups."""
    groups = []
    for mount, path in _hierarchies():
        existing = next((p for p in below(mount) if p.name == GROUP), None) if path != "/" else None
        groups.append(existing or mount / path.lstrip("/") / GROUP)
    return groups


def make(instance: str, host: str) -> list[Path]:
    """Make the host's groups; returns their ``cgroup.procs`` files, to which the host's first process is written."""
    with _MAKING:
        return _made(instance, host)


# hosts start in parallel, and a fresh cpuset group takes nobody before it is filled in
_MAKING = Lock()


def _made(instance: str, host: str) -> list[Path]:
    procs = []
    for base in _base():
        for group in (base, base / instance, base / instance / host):
            if not group.exists():
                group.mkdir()
            cpus = group / "cpuset.cpus"
            if cpus.exists() and not cpus.read_text(encoding="utf-8").strip():
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text((group.parent / name).read_text(encoding="utf-8"), encoding="utf-8")
                (group / "cgroup.clone_children").write_text("1", encoding="utf-8")
        procs.append(base / instance / host / "cgroup.procs")
    return procs


def _groups(instance: str, host: str | None) -> list[Path]:
    folders = [base / instance if host is None else base / instance / host for base in _base()]
    return [folder for folder in folders if folder.is_dir()]


def processes(instance: str, host: str | None = None) -> set[int]:
    """Pids in the groups of a host, or of all hosts of an instance."""
    found: set[int] = set()
    for folder in _groups(instance, host):
        for group in below(folder):
            with contextlib.suppress(OSError):
                procs = (group / "cgroup.procs").read_text(encoding="utf-8")
                found |= {int(line) for line in procs.split() if int(line) > 0}
    return found


def freeze(instance: str, host: str, *, frozen: bool) -> None:
    """Stop or continue every process of a host (signals: the freezer would need every group below it)."""
    for pid in processes(instance, host):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)


def kill(instance: str, host: str | None = None, *, seconds: float = 20) -> None:
    """SIGKILL everything in the groups until nothing is left. Only processes that the lab started are ever in them."""
    deadline = time.monotonic() + seconds
    while (left := processes(instance, host)) and time.monotonic() < deadline:
        for pid in left - {os.getpid()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def remove(instance: str, host: str | None = None) -> None:
    """Remove the (empty) groups, deepest first."""
    for folder in _groups(instance, host):
        for group in below(folder, deepest_first=True):
            with contextlib.suppress(OSError):
                group.rmdir()
        if host is None:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
