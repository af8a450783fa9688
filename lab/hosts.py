"""Hosts that play VMs: systemd-nspawn containers that boot Debian from an overlay, each in a namespace of its own.

Facts of this arrangement (what nspawn needs to carry a kubelet) were measured beforehand; see lab/README.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from ipaddress import IPv4Interface
from pathlib import Path
from threading import Lock
from typing import Any

from lab import cards, cgroups, network
from lab.machine import Disk, Machine, MachineError
from lab.paths import Instance
from lab.shell import LabError, run

# overlayfs does not stack on an overlay, so what containerd and etcd write lives in bind mounts
# the lab's NFS servers, as every host sees them: exports/SERVER/SHARE, and a file `gone` while they do not answer
NFS_FOLDER = "/srv/lab-nfs"
OWN_FOLDERS = ("/var/lib/rancher", "/var/lib/kubelet", "/var/lib/gpuctl")
REBOOT_EXIT = 133


def _mounted_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return sorted((line.split()[4] for line in lines if line.split()[4].startswith(f"{folder}/")), reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmount everything below the folder, deepest first."""
    for mount in _mounted_below(folder):
        run(["umount", "-l", mount], check=False)


def detach_loops(folder: Path) -> None:
    """Detach the loop devices whose files are below the folder."""
    for line in run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], check=False).splitlines():
        device, _, file = line.partition(" ")
        if file.strip().startswith(f"{folder}/"):
            run(["losetup", "--detach", device], check=False)


class Hosts:
    """Runs the machines of one lab; implements ``lab.machine.Machines``. Used by the daemon's threads."""

    def __init__(self, instance: Instance, rootfs: Path) -> None:
        self._instance = instance
        self._rootfs = rootfs
        self._folder = instance.root / "hosts"
        self._locks: dict[int, Lock] = {}
        self._guard = Lock()
        # with this set, a fresh scratch disk carries somebody's file system (a fault)
        self.foreign_scratch: set[int] = set()
        # what is wrong with the cards of a host, by their index
        self._card_faults: dict[int, dict[int, dict[str, Any]]] = {}
        self._cards: dict[int, tuple[str, ...]] = {}
        self._nfs = instance.root / "nfs"

    def _lock(self, vmid: int) -> Lock:
        with self._guard:
            return self._locks.setdefault(vmid, Lock())

    def _root(self, vmid: int) -> Path:
        return self._folder / str(vmid)

    # --- Machines

    def start(self, machine: Machine) -> None:
        with self._lock(machine.vmid):
            if self.running(machine.vmid):
                return
            try:
                self._prepare(machine)
                self._boot(machine)
            except (LabError, OSError) as error:
                raise MachineError(str(error)) from error

    def stop(self, vmid: int, *, hard: bool) -> None:
        with self._lock(vmid):
            leader = self._leader(vmid)
            if leader is None:
                return
            self._off_marker(vmid).touch()
            if not hard:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader, signal.SIGRTMIN + 4)  # systemd: power off
                deadline = time.monotonic() + 30
                while self.running(vmid) and time.monotonic() < deadline:
                    time.sleep(0.1)
            self._clear(vmid)

    def destroy(self, vmid: int) -> None:
        self.stop(vmid, hard=True)
        with self._lock(vmid):
            root = self._root(vmid)
            unmount_below(root)
            detach_loops(root)
            network.remove_host(self._instance, vmid)
            cgroups.remove(self._instance.name, str(vmid))
            shutil.rmtree(root, ignore_errors=True)

    def running(self, vmid: int) -> bool:
        return self._leader(vmid) is not None

    def resize(self, vmid: int, interface: str, size: int) -> None:
        file = self._root(vmid) / "disks" / interface
        if not file.exists():
            return
        os.truncate(file, size)
        for line in run(["losetup", "--associated", str(file), "--noheadings", "--output", "NAME"]).splitlines():
            run(["losetup", "--set-capacity", line.strip()])

    def agent(self, vmid: int) -> dict[str, object] | None:
        with contextlib.suppress(LabError):
            if self.inside(vmid, "systemctl is-active qemu-guest-agent", seconds=5).strip() == "active":
                links = json.loads(self.inside(vmid, "ip -j addr", seconds=5))
                return {
                    "interfaces": [
                        (
                            link["ifname"],
                            link.get("address", ""),
                            [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["family"] == "inet"],
                        )
                        for link in links
                    ]
                }
        return None

    # --- for tests and faults

    def inside(self, vmid: int, script: str, *, seconds: float = 30) -> str:
        """Run a shell script in the host as its root, past SSH. LabError when it fails or the host is off."""
        leader = self._leader(vmid)
        if leader is None:
            raise LabError(f"host {vmid} is not running")
        return run(["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "sh", "-c", script], seconds=seconds)

    def kill(self, vmid: int) -> None:
        """Pull the plug. The VM is off until it is started again."""
        self.stop(vmid, hard=True)

    def reboot(self, vmid: int) -> None:
        with contextlib.suppress(LabError):
            self.inside(vmid, "systemctl reboot")

    def freeze(self, vmid: int, *, frozen: bool) -> None:
        cgroups.freeze(self._instance.name, str(vmid), frozen=frozen)

    def nfs(self, *, gone: bool) -> None:
        """Take the NFS servers away from new mounts and volumes, or bring them back. What is mounted stays usable."""
        marker = self._nfs / "gone"
        if gone:
            marker.touch()
        else:
            marker.unlink(missing_ok=True)

    def break_card(self, vmid: int, index: int, **fault: Any) -> None:
        """Change a card of a running host (``healthy=False``, ``xid=79``, ``gone=True``); no fault: it is whole."""
        known = self._card_faults.setdefault(vmid, {})
        known[index] = {**known.get(index, {}), **fault} if fault else {}
        path = self._root(vmid) / "root" / cards.CARDS_FILE.lstrip("/")
        new = path.with_suffix(".new")
        new.write_text(json.dumps(cards.describe(self._cards[vmid], known), indent=1), encoding="utf-8")
        new.rename(path)

    # --- making and booting

    def _off_marker(self, vmid: int) -> Path:
        return self._root(vmid) / "off"

    def _leader(self, vmid: int) -> int | None:
        """Pid of the host's systemd: the child of its nspawn. None: off."""
        try:
            nspawn = int((self._root(vmid) / "nspawn.pid").read_text(encoding="utf-8"))
            children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text(encoding="utf-8").split()
            command = Path(f"/proc/{nspawn}/comm").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        return int(children[0]) if children and command == "systemd-nspawn" else None

    def _prepare(self, machine: Machine) -> None:
        root = self._root(machine.vmid)
        for name in ("upper", "work", "root", "own", "disks"):
            (root / name).mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(root / "root"):
            options = f"lowerdir={self._rootfs},upperdir={root / 'upper'},workdir={root / 'work'}"
            run(["mount", "-t", "overlay", "overlay", "-o", options, root / "root"])
        for folder in OWN_FOLDERS:
            (root / "own" / folder.replace("/", "_")).mkdir(exist_ok=True)
        self._off_marker(machine.vmid).unlink(missing_ok=True)
        self._cards[machine.vmid] = machine.gpus
        shutil.rmtree(root / "root" / cards.PCI_FOLDER.lstrip("/"), ignore_errors=True)
        files = {**self._files(machine), **cards.files(machine.gpus, self._card_faults.get(machine.vmid, {}))}
        for name, text in files.items():
            path = root / "root" / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        data = machine.cloud_init
        network.add_host(self._instance, machine.vmid, machine.mac, IPv4Interface(data.address_cidr), data.gateway)

    def _files(self, machine: Machine) -> Mapping[str, str]:
        data = machine.cloud_init
        resolv = [f"search {data.search_domain}"] if data.search_domain else []
        kib = machine.memory // 1024
        meminfo = {
            "MemTotal": kib,
            "MemFree": kib - 524288,
            "MemAvailable": kib - 524288,
            "SwapTotal": 0,
            "SwapFree": 0,
        }
        processor = (
            "processor\t: {0}\nphysical id\t: 0\ncore id\t\t: {0}\ncpu cores\t: {1}\n"
            "model name\t: lab\ncpu MHz\t\t: 2000.000\n\n"
        )
        return {
            "/etc/hostname": f"{machine.name}\n",
            "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n",
            "/etc/resolv.conf": "".join(
                f"{line}\n" for line in [*resolv, *(f"nameserver {n}" for n in data.nameservers)]
            ),
            "/etc/lab/seed": f"SEED_USER={shlex.quote(data.user)}\n",
            "/etc/lab/authorized_keys": "".join(f"{key}\n" for key in data.ssh_keys),
            "/etc/lab/disks": "".join(f"{name} {device}\n" for name, device in self._disks(machine)),
            "/etc/lab/meminfo": "".join(f"{name}:{value:>16} kB\n" for name, value in meminfo.items()),
            "/etc/lab/cpuinfo": "".join(processor.format(n, machine.cpus) for n in range(machine.cpus)),
        }

    def _disks(self, machine: Machine) -> list[tuple[str, str]]:
        """(by-id name, loop device) of every disk but the one the host booted from, in no helpful order."""
        disks = [disk for disk in machine.disks if disk.interface != "scsi0"]
        return [(_by_id(disk), self._loop(machine.vmid, disk)) for disk in reversed(disks)]

    def _loop(self, vmid: int, disk: Disk) -> str:
        file = self._root(vmid) / "disks" / disk.interface
        if not file.exists():
            with file.open("wb") as stream:
                stream.truncate(disk.size)
            if vmid in self.foreign_scratch:
                run(["mkfs.ext4", "-q", "-L", "somebodys", str(file)], seconds=120)
        known = run(["losetup", "--associated", str(file), "--noheadings", "--output", "NAME"]).split()
        return known[0] if known else run(["losetup", "--find", "--show", str(file)]).strip()

    def _boot(self, machine: Machine) -> None:
        vmid, root = machine.vmid, self._root(machine.vmid)
        procs = cgroups.make(self._instance.name, str(vmid))
        own = [f"--bind={root / 'own' / folder.replace('/', '_')}:{folder}" for folder in OWN_FOLDERS]
        devices = [f"--bind={device}" for _, device in self._disks(machine)]
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            f"--directory={root / 'root'}",
            f"--machine={machine.name}",
            f"--network-namespace-path=/run/netns/{self._instance.host_namespace(vmid)}",
            "--capability=all",
            "--system-call-filter=@keyring bpf @pkey perf_event_open",
            "--bind=/dev/kmsg",
            "--resolv-conf=off",
            "--timezone=off",
            *own,
            *devices,
            f"--bind={self._nfs}:{NFS_FOLDER}",
            "--boot",
            "--console=pipe",
        ]
        # nspawn exits with 133 on a reboot from inside; the marker says that the plug was pulled meanwhile
        script = (
            f"for procs in {' '.join(map(shlex.quote, map(str, procs)))}; do echo $$ > $procs; done; "
            f"while :; do {shlex.join(nspawn)} </dev/null & echo $! > {root}/nspawn.pid; wait $!; code=$?; "
            f"[ $code = {REBOOT_EXIT} ] && [ ! -e {root}/off ] || break; done; rm -f {root}/nspawn.pid"
        )
        environment = {
            **os.environ,
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",  # with 1 the host would write the machine's own sysctls
            "SYSTEMD_NSPAWN_USE_CGNS": "1",
        }
        with (root / "console.log").open("ab") as console:
            subprocess.Popen(
                ["setsid", "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        deadline = time.monotonic() + 15
        while not self.running(vmid):
            if time.monotonic() > deadline:
                tail = (root / "console.log").read_text(encoding="utf-8", errors="replace")[-500:]
                raise MachineError(f"{machine.name} did not boot: {tail}")
            time.sleep(0.05)

    def _clear(self, vmid: int) -> None:
        cgroups.kill(self._instance.name, str(vmid))
        (self._root(vmid) / "nspawn.pid").unlink(missing_ok=True)


def _by_id(disk: Disk) -> str:
    return f"scsi-0QEMU_QEMU_HARDDISK_{disk.serial or f'drive-{disk.interface}'}"
