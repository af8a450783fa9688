"""What the emulated Proxmox API asks of the host runner: the seam between lab/pve (API) and lab/hosts (nspawn).

The emulator decides *that* a VM starts, with which disks, cards and cloud-init data; the host runner makes a
booted Debian host of it. Sizes are bytes, addresses are without prefix unless named ``*_cidr``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Disk:
    """One virtual disk. ``interface`` is the Proxmox key (scsi0), ``serial`` its serial number or ""."""

    interface: str
    size: int
    serial: str = ""


@dataclass(frozen=True)
class CloudInit:
    """What Proxmox would put on the cloud-init drive (ciuser, sshkeys, ipconfig0, nameserver, searchdomain)."""

    user: str
    ssh_keys: tuple[str, ...]
    address_cidr: str
    gateway: str
    nameservers: tuple[str, ...] = ()
    search_domain: str = ""
    upgrade: bool = True


@dataclass(frozen=True)
class Machine:
    """A VM as its Proxmox configuration describes it at the moment of start."""

    vmid: int
    name: str
    cpus: int
    memory: int
    disks: tuple[Disk, ...]
    mac: str
    cloud_init: CloudInit
    gpus: tuple[str, ...] = ()


class Machines(Protocol):
    """Runs machines. Calls block (the emulator calls them from worker threads) and are idempotent."""

    def start(self, machine: Machine) -> None:
        """Boot the machine; its disks are created on first start and kept until ``destroy``. Raises MachineError."""

    def stop(self, vmid: int, *, hard: bool) -> None:
        """Power off: cleanly within 30 s, or at once when ``hard``. Unknown machines are already off."""

    def destroy(self, vmid: int) -> None:
        """Remove the stopped machine with its disks and everything made for it."""

    def running(self, vmid: int) -> bool:
        """Whether the machine is powered on."""

    def resize(self, vmid: int, interface: str, size: int) -> None:
        """Grow a disk of a machine, running or not."""

    def agent(self, vmid: int) -> dict[str, object] | None:
        """None unless qemu-guest-agent is active in the guest; else {"interfaces": [(name, mac, [cidr, ...]), ...]}."""


class MachineError(RuntimeError):
    """The machine could not be started; the message is what a Proxmox task log would end with."""
