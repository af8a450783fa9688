"""SSH to the cluster's hosts with the key and the known_hosts of the workspace; scripts run as root.

The same options are given to Ansible, so that both share one connection per host.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, Exit, GpuctlError
from gpuctl.run.workspace import Workspace, on_disk, write_private
from gpuctl.spec.resolved import Node

if TYPE_CHECKING:
    from gpuctl.context import Context

CONNECT_SECONDS = 10
END_SECONDS = 2.0
# ssh's own exit code for everything that keeps it from running the command
SSH_FAILED = 255


@dataclass(frozen=True)
class Completed:
    """A script that ran to its end on the host."""

    code: int
    stdout: str
    stderr: str


class HostKeyChanged(GpuctlError):
    """Another machine answers, or this one was made anew: waiting does not help."""


class Refused(GpuctlError):
    """The host answers and does not let us in; while it boots for the first time, our user may not be made yet."""


class Ssh:
    """``user`` may use sudo without a password on every host (the cloud image's default user)."""

    def __init__(self, user: str, workspace: Workspace) -> None:
        self._user = user
        self._workspace = workspace
        self._key_lock = Lock()

    @classmethod
    def of(cls, ctx: Context) -> Ssh:
        return cls(ctx.spec.ssh.user, ctx.workspace)

    def public_key(self) -> str:
        """``ssh-ed25519 AAAA... gpuctl``; the private half is made in the workspace on first use (0600)."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        path = self._workspace.ssh_key
        with self._key_lock:
            if not path.exists():
                made = Ed25519PrivateKey.generate().private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
                )
                write_private(path, made.decode())
        try:
            key = serialization.load_ssh_private_key(path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise GpuctlError(
                "the workspace's SSH key cannot be read",
                where=str(path),
                cause=str(error),
                next="restore it from a backup; without it gpuctl cannot log in to the hosts",
                exit_code=Exit.CREDENTIALS,
            ) from error
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return f"{public.decode()} gpuctl"

    def options(self) -> list[str]:
        """Options for ssh, shared with Ansible: nothing is asked, keys of new hosts are kept, one connection a host.

        A host that goes silent is noticed within 15 s. No compression: it quarters the speed on a LAN.
        """
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "IdentityFile": _quoted(self._workspace.ssh_key),
            "IdentitiesOnly": "yes",
            "PreferredAuthentications": "publickey",
            "UserKnownHostsFile": _quoted(self._workspace.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "accept-new",
            "HashKnownHosts": "no",
            "ControlMaster": "auto",
            "ControlPersist": "60s",
            "ControlPath": f"{_quoted(self.control_folder())}/%C",
            "Compression": "no",
            "LogLevel": "ERROR",
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def control_folder(self) -> Path:
        """The folder of the control sockets: short, since a socket's path is limited to 107 bytes, and private.

        It belongs to one workspace: the same addresses may be other machines elsewhere.
        """
        mark = hashlib.sha256(str(self._workspace.root).encode()).hexdigest()[:8]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        base = Path(runtime) if runtime and len(runtime) < 30 and Path(runtime).is_dir() else Path("/tmp")
        folder = base / f"gpuctl-{os.getuid()}-{mark}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            facts = folder.lstat()
        except OSError as error:
            raise GpuctlError(f"cannot make {folder}: {error.strerror}", where=str(folder)) from error
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077 or folder.is_symlink():
            # somebody else made it first: their sockets are not to be trusted
            return Path(tempfile.mkdtemp(prefix="gpuctl-"))
        return folder

    def run(self, node: Node, script: str, *, deadline: Deadline, stdin: str = "") -> Completed:
        """Run a POSIX sh script as root on the host and wait for its end, whatever its exit code.

        The script is visible in the host's process list: hand secrets over by ``stdin``. A script that is abandoned
        (deadline, interrupt) goes on running on the host. Raises GpuctlError: unreachable, authentication refused,
        host key changed, no sudo; DeadlineExceeded.
        """
        self.public_key()
        remote = f"sudo -n sh -c {shlex.quote(script)}"
        process = _start(["ssh", *self.options(), f"{self._user}@{node.address}", remote])
        given: str | None = stdin
        while True:
            try:
                stdout, stderr = process.communicate(given, timeout=min(0.5, deadline.left))
                break
            except subprocess.TimeoutExpired:
                given = None  # it has been taken; it cannot be given twice
                if deadline.expired or deadline.stop.is_set():
                    _end(process)
                    raise _abandoned(node, deadline) from None
        if process.returncode == SSH_FAILED:
            raise self._translated(node, stderr)
        if process.returncode == 1 and stderr.startswith("sudo: "):
            raise Refused(
                f"{node.name}: {self._user} may not use sudo without a password",
                where=f"host {node.name} ({node.address})",
                cause=stderr.strip(),
                next=f"allow it in /etc/sudoers.d: {self._user} ALL=(ALL) NOPASSWD:ALL",
                exit_code=Exit.CREDENTIALS,
            )
        return Completed(process.returncode, stdout, stderr)

    def run_all(
        self, nodes: Iterable[Node], script_for: Callable[[Node], str], *, deadline: Deadline, workers: int = 64
    ) -> dict[str, Completed | GpuctlError]:
        """Run a script on every host at once; results by node name, a host that cannot be used as its error."""

        def one(node: Node) -> Completed | GpuctlError:
            try:
                return self.run(node, script_for(node), deadline=deadline)
            except GpuctlError as error:
                return error

        wanted = list(nodes)
        with ThreadPoolExecutor(max_workers=max(1, min(workers, len(wanted)))) as pool:
            return {node.name: result for node, result in zip(wanted, pool.map(one, wanted), strict=True)}

    def forget(self, node: Node) -> None:
        """Forget the host's key and end our connection to it: the machine at this address is another one now."""
        path = self._workspace.known_hosts
        address = str(node.address)
        if path.exists():
            with on_disk(f"read {path}", path):
                known = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in known if line.split(" ")[0] != address]
            write_private(path, "".join(f"{line}\n" for line in kept))
        leave = ["ssh", *self.options(), "-O", "exit", f"{self._user}@{address}"]
        process = _start(leave)
        try:
            process.communicate(timeout=CONNECT_SECONDS)
        except subprocess.TimeoutExpired:
            _end(process)  # a master that does not answer; it ends by itself 60 s after its last use

    def _translated(self, node: Node, stderr: str) -> GpuctlError:
        # ssh has one exit code for all its failures, so its words are all there is to go by
        said = stderr.strip()
        where = f"host {node.name} ({node.address})"
        if "HOST IDENTIFICATION HAS CHANGED" in stderr or "Host key verification failed" in stderr:
            return HostKeyChanged(
                f"{node.name} shows another SSH host key than before",
                where=where,
                cause="the host was reinstalled outside gpuctl, or another machine answers at this address",
                next=f"if it is the right machine: ssh-keygen -R {node.address} "
                f"-f {shlex.quote(str(self._workspace.known_hosts))}",
                exit_code=Exit.CREDENTIALS,
            )
        if "Permission denied" in stderr:
            return Refused(
                f"{node.name} refuses the SSH key of this workspace",
                where=where,
                cause=f"{self._user} on the host does not know {self._workspace.ssh_key}.pub: {said}",
                next="check that the VM was made by this workspace (gpuctl status)",
                exit_code=Exit.CREDENTIALS,
            )
        return GpuctlError(
            f"{node.name} does not answer on SSH",
            where=where,
            cause=said.splitlines()[-1] if said else "the connection ended without a word",
            next="look at the VM's console; gpuctl status shows whether it runs",
        )


def run_as_operator(destination: str, script: str, deadline: Deadline) -> Completed:
    """Run a POSIX sh script on a machine that is none of ours, by the operator's own ssh configuration and keys.

    Raises GpuctlError: unreachable, refused, an unknown host key, the script failed; DeadlineExceeded.
    """
    settings = ("BatchMode=yes", f"ConnectTimeout={CONNECT_SECONDS}", "LogLevel=ERROR")
    options = [part for setting in settings for part in ("-o", setting)]
    process = _start(["ssh", *options, "--", destination, "sh -s"])
    try:
        stdout, stderr = process.communicate(script, timeout=deadline.left)
    except subprocess.TimeoutExpired:
        _end(process)
        raise DeadlineExceeded(f"{deadline.what}: not done within {deadline.seconds:.0f} s") from None
    said = stderr.strip().splitlines()
    if process.returncode == SSH_FAILED:
        raise GpuctlError(
            f"{destination} cannot be reached by ssh",
            where=destination,
            cause=said[-1] if said else "the connection ended without a word",
            next=f"ssh {shlex.quote(destination)} must work without a question: host key known, key in the agent",
        )
    if process.returncode:
        raise GpuctlError(f"the script failed on {destination}", where=destination, cause="\n".join(said[-3:]))
    return Completed(process.returncode, stdout, stderr)


def _quoted(path: Path) -> str:
    """As ssh reads it in an option: its own quotes and percent signs."""
    return f'"{str(path).replace("%", "%%")}"' if " " in str(path) else str(path).replace("%", "%%")


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        raise GpuctlError(
            "ssh is not installed", next="install it (Debian, Ubuntu: apt install openssh-client)"
        ) from None


def _end(process: subprocess.Popen[str]) -> None:
    """End an ssh whose answer nobody waits for any more, also one that does not listen or whose pipes another holds."""
    process.terminate()
    for _ in range(2):
        try:
            process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        else:
            return


def _abandoned(node: Node, deadline: Deadline) -> GpuctlError:
    where = f"host {node.name} ({node.address})"
    if deadline.stop.is_set():
        return GpuctlError(f"{deadline.what}: interrupted", where=where)
    return DeadlineExceeded(
        f"{node.name}: {deadline.what}: not done within {deadline.seconds:.0f} s",
        where=where,
        next="look at the VM's console; then run the same command again",
    )
