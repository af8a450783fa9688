"""The workspace of one cluster at one endpoint: state, keys, tokens, kubeconfig, logs, reports. One run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from gpuctl.run.errors import Exit, GpuctlError


@contextmanager
def on_disk(doing: str, path: Path) -> Iterator[None]:
    """Turn the disk's refusal in the block (full, read-only, no rights) into a GpuctlError: ``cannot <doing>``."""
    try:
        yield
    except OSError as error:
        raise GpuctlError(
            f"cannot {doing}: {error.strerror}", where=str(path), next="free some space or fix the folder's mode"
        ) from error


def write_private(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Write atomically with this mode: a killed run leaves the old file or the new one. Raises GpuctlError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with on_disk(f"write {path}", path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, mode)
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
    except (GpuctlError, UnicodeError):
        with suppress(OSError):
            temporary.unlink()
        raise


class Workspace:
    """Paths below ``.gpuctl/<cluster>@<endpoint>/`` beside the spec. Made on first use by ``create``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.terraform = root / "terraform"
        self.ansible = root / "ansible"
        self.secrets = root / "secrets"
        self.logs = root / "logs"
        self.reports = root / "reports"
        self.kubeconfig = root / "kubeconfig"
        self.known_hosts = root / "known_hosts"
        self.ssh_key = self.secrets / "ssh_ed25519"
        self.children = root / "children"
        self._replaced = root / "replaced.json"

    @classmethod
    def of(cls, spec_file: Path, cluster: str, endpoint_name: str) -> Workspace:
        """The workspace belonging to this spec file."""
        return cls(spec_file.resolve().parent / ".gpuctl" / f"{cluster}@{endpoint_name}")

    @property
    def exists(self) -> bool:
        return (self.root / "cluster-id").exists()

    def create(self) -> None:
        """Make the folders, 0700. Raises GpuctlError when the disk refuses."""
        with on_disk("make the workspace", self.root):
            for folder in (self.root, self.terraform, self.ansible, self.secrets, self.logs, self.reports):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            ignore = self.root.parent / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        self.secret("cluster-id", folder=self.root)

    @property
    def cluster_id(self) -> str:
        """A random id made once; the mark on everything we create on the Proxmox server."""
        return self.secret("cluster-id", folder=self.root)

    def secret(self, name: str, *, folder: Path | None = None) -> str:
        """The generated secret of this name (32 hex characters), made once."""
        path = (folder or self.secrets) / name
        if not path.exists():
            write_private(path, secrets.token_hex(16) + "\n")
        with on_disk(f"read {path}", path):
            return path.read_text(encoding="utf-8").strip()

    def replaced(self) -> frozenset[str]:
        """Nodes whose machine was replaced by a run that has not brought them into the cluster again."""
        try:
            return frozenset(json.loads(self._replaced.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return frozenset()

    def note_replaced(self, names: Collection[str]) -> None:
        """The same command, given again before a run has come to its end, must not replace them again."""
        if names:
            write_private(self._replaced, json.dumps(sorted({*self.replaced(), *names})) + "\n")

    def forget_replaced(self) -> None:
        """A run that brings replaced machines into the cluster has come to its end."""
        self._replaced.unlink(missing_ok=True)

    def private_modes(self) -> dict[str, int]:
        """Modes of the files that nobody else may read, by path."""
        files = [self.kubeconfig, self.terraform / "terraform.tfstate", *sorted(self.secrets.glob("*"))]
        return {str(path): stat.S_IMODE(path.stat().st_mode) for path in files if path.is_file()}

    def new_log(self) -> Path:
        """Path of this run's log file."""
        return self.logs / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{os.getpid()}.log"

    @contextmanager
    def lock(self, command: str) -> Iterator[None]:
        """Hold the workspace for one mutating run; GpuctlError (exit 5) names the holder.

        The kernel releases it when we die.
        """
        path = self.root / "lock"
        with on_disk("lock the workspace", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip() or "unknown"
                raise GpuctlError(
                    "another gpuctl is working on this cluster",
                    where=str(path),
                    cause=f"held by {holder}",
                    next="wait for it to end, or stop it with Ctrl-C in its terminal",
                    exit_code=Exit.LOCKED,
                ) from None
            holder = json.dumps({"pid": os.getpid(), "command": command, "since": f"{datetime.now(UTC):%FT%TZ}"})
            with on_disk("lock the workspace", path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode(), 0)
            yield
        finally:
            os.close(descriptor)


def data_folder(name: str) -> Path:
    """``templates`` or ``fleet``: inside the installed wheel, else in the checkout (editable install)."""
    package = Path(sys.modules["gpuctl"].__file__ or "").parent
    packed = package / "_data" / name
    return packed if packed.is_dir() else package.parent.parent / name
