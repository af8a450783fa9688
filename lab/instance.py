"""Bring a lab up and take it down. Going down needs nothing but the machine: it works after kill -9 of anything."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import yaml

from lab import cgroups, limits, mirror, network, provider, site, terraform
from lab.build import build
from lab.client import call
from lab.hosts import detach_loops, unmount_below
from lab.paths import SOURCE, STATE, Instance
from lab.shell import LabError, run

UP_SECONDS = 60


NOBODY = 65534


@dataclass(frozen=True)
class Wanted:
    """What a spec names that the lab must have. ``gateway``: its address on the LAN; ``nfs``: SERVER/SHARE."""

    gateway: IPv4Interface
    hosts: int
    gpus: int
    nfs: Path | None


def wanted_by(spec: Path) -> Wanted:
    """LabError when the spec lacks a part of it."""
    try:
        said: dict[str, Any] = yaml.safe_load(spec.read_text(encoding="utf-8"))
        lan = IPv4Network(said["network"]["cidr"])
        gateway = IPv4Interface(f"{said['network']['gateway']}/{lan.prefixlen}")
        pools = said["nodes"].get("pools") or []
        hosts = said["nodes"]["control_plane"].get("count", 3) + sum(pool["count"] for pool in pools)
        gpus = sum((pool.get("gpus") or {}).get("count", 0) * pool["count"] for pool in pools)
        nfs = (said.get("storage") or {}).get("nfs") or {}
        share = Path(nfs["server"], str(nfs["path"]).strip("/")) if nfs else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise LabError(
            f"{spec}: cannot read network.cidr, network.gateway, nodes and storage.nfs: {error!r}; try gpuctl validate"
        ) from error
    return Wanted(gateway, hosts, gpus, share)


def up(instance: Instance, spec: Path) -> None:
    """Everything of the lab but VMs. LabError when it is up already."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and hosts: run it as root")
    if not instance.name.isalnum() or len(instance.name) > 8:
        raise LabError(f"{instance.name!r}: a lab's name is up to 8 letters and digits")
    if instance.root.exists():
        raise LabError(f"the lab {instance.name} is up, or was left behind: scripts/lab down --name {instance.name}")
    wanted = wanted_by(spec)
    limits.require(wanted.hosts, _to_come())
    artifacts = build()
    instance.root.mkdir(parents=True, mode=0o755)
    try:
        instance.hosts_file.write_text(str(wanted.hosts), encoding="utf-8")
        network.up(instance, wanted.gateway)
        provider.install(instance.root / "providers", sys.executable)
        (instance.root / "bin").mkdir()
        (instance.root / "bin/helm").symlink_to(artifacts.helm)
        _export(instance, wanted.nfs)
        if shutil.which("terraform") is None:
            terraform.install(instance.root / "bin", sys.executable)
        instance.site_file.write_text(
            site.content(instance, mirror.sha256(artifacts.os_image), artifacts.charts, _host_block(wanted.gpus)),
            encoding="utf-8",
        )
        _start_daemon(instance, wanted.gpus)
    except BaseException:
        down(instance)
        raise


def _to_come() -> int:
    """Hosts for which the labs that are up were made, and which do not run yet: they will want their share."""
    found = 0
    for instance in map(Instance, names()):
        with contextlib.suppress(OSError, ValueError):
            running = len(list(instance.root.glob("hosts/*/nspawn.pid")))
            found += max(0, int(instance.hosts_file.read_text(encoding="utf-8")) - running)
    return found


def _export(instance: Instance, nfs: Path | None) -> None:
    """The folders that play the NFS server: the export belongs to nobody, since the server squashes root."""
    exports = instance.root / "nfs/exports"
    exports.mkdir(parents=True)
    if nfs is not None:
        (exports / nfs).mkdir(parents=True)
        os.chown(exports / nfs, NOBODY, NOBODY)


def _host_block(gpus: int) -> dict[str, Any]:
    from lab.pve.site import Inventory

    inventory = Inventory.default(gpus=gpus)
    gib = 1 << 30
    return {
        "memory": f"{inventory.memory // gib}GiB",
        "storage": {name: f"{storage.total // gib}GiB" for name, storage in inventory.storages.items()},
        "gpus": gpus,
    }


def _start_daemon(instance: Instance, gpus: int) -> None:
    command = [
        "nsenter",
        f"--net=/run/netns/{instance.lan}",
        "setsid",
        sys.executable,
        "-m",
        "lab",
        "daemon",
        "--name",
        instance.name,
        "--gpus",
        str(gpus),
    ]
    with instance.log.open("ab") as log:
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=SOURCE.parent
        )
    deadline = time.monotonic() + UP_SECONDS
    while True:
        try:
            call(instance, "ping", seconds=5)
        except LabError:
            if daemon.poll() is not None or time.monotonic() > deadline:
                tail = instance.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise LabError(f"the lab's daemon did not start: {tail}") from None
            time.sleep(0.1)
        else:
            return


def daemon_pid(instance: Instance) -> int | None:
    """Pid of the daemon if it is alive and really ours (its start time is compared)."""
    try:
        known = json.loads(instance.daemon_file.read_text(encoding="utf-8"))
        fields = Path(f"/proc/{known['pid']}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError, KeyError):
        return None
    return int(known["pid"]) if fields[19] == known["start"] and fields[0] not in "ZX" else None


def down(instance: Instance) -> None:
    """Take everything of the lab away, whatever state it is in. LabError names what could not be removed."""
    pid = daemon_pid(instance)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while daemon_pid(instance) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
    cgroups.kill(instance.name)
    unmount_below(instance.root)
    detach_loops(instance.root)
    network.down(instance)
    cgroups.remove(instance.name)
    shutil.rmtree(instance.root, ignore_errors=True)
    left = leftovers(instance)
    if left:
        raise LabError(f"the lab {instance.name} left something behind: {', '.join(left)}")


def leftovers(instance: Instance) -> list[str]:
    """What of the lab is still on this machine: folder, mounts, loop devices, namespaces, processes."""
    found = [str(instance.root)] if instance.root.exists() else []
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    found += [f"mount {line.split()[4]}" for line in mounts.splitlines() if f"{instance.root}/" in line.split()[4]]
    loops = run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], check=False)
    found += [f"loop {line.split()[0]}" for line in loops.splitlines() if f"{instance.root}/" in line]
    namespaces = Path("/run/netns")
    if namespaces.is_dir():
        ours = (instance.lan, f"{instance.lan}-")
        found += [f"netns {n.name}" for n in namespaces.iterdir() if n.name == ours[0] or n.name.startswith(ours[1])]
    return found + [f"process {pid}" for pid in cgroups.processes(instance.name)]


def names() -> list[str]:
    """Labs of this machine that are up or were left behind."""
    return sorted(entry.name for entry in STATE.iterdir() if entry.is_dir()) if STATE.is_dir() else []


def environment(instance: Instance) -> dict[str, str]:
    """For commands inside the lab: its Helm, and its Terraform where the machine has none."""
    folder = instance.root / "bin"
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    # what the machine is configured with for the internet must not leak into an air-gapped site
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    found = {**kept, "PATH": f"{folder}:{path}", "GPUCTL_LAB": instance.name}
    if instance.git_password.exists():
        found["GIT_PASSWORD"] = instance.git_password.read_text(encoding="utf-8").strip()
    return found
