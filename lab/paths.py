"""Where the lab keeps things: built artifacts in a cache, one folder per running instance."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

STATE = Path("/var/lib/gpuctl-lab")
SOURCE = Path(__file__).resolve().parent

# The emulated API and the mirrors listen here, on an address that is reserved for documentation (RFC 5737).
SERVICE_ADDRESS = "192.0.2.10"
API_PORT = 8006
MIRROR_PORT = 8080
GIT_PORT = 8081


def cache() -> Path:
    """The folder of built artifacts, outside the tree, shared by all checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "gpuctl-lab"


@dataclass(frozen=True)
class Instance:
    """One lab of this machine. ``name`` is at most 8 characters, since it is part of namespace names."""

    name: str

    @property
    def root(self) -> Path:
        return STATE / self.name

    @property
    def site_file(self) -> Path:
        return self.root / "site.yaml"

    @property
    def control_socket(self) -> Path:
        return self.root / "control.sock"

    @property
    def daemon_file(self) -> Path:
        return self.root / "daemon.json"

    @property
    def hosts_file(self) -> Path:
        """How many hosts the lab was made for."""
        return self.root / "hosts-wanted"

    @property
    def git_password(self) -> Path:
        """What a push to the site's Git server needs; ``lab run`` has it as GIT_PASSWORD."""
        return self.root / "git-password"

    @property
    def log(self) -> Path:
        return self.root / "lab.log"

    @property
    def lan(self) -> str:
        """Name of the network namespace that is the lab's LAN."""
        return f"gl-{self.name}"

    def host_namespace(self, vmid: int) -> str:
        return f"gl-{self.name}-{vmid}"
