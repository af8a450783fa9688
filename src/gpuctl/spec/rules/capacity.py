"""What the VMs take from the host, against what the site says it has; what a node needs to do its work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gpuctl.spec.model import Cluster, Pool
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule, machines
from gpuctl.spec.units import GIB, show_gib, show_size

GB = 10**9
# what the host needs for itself, for each VM's QEMU, and to map each page of theirs for the cards
PROXMOX = 2 * GIB
QEMU = 256 << 20
PAGES_MAPPED = 512
# least memory of a K3s server and of an agent
SERVER, AGENT = 2 * GB, 512 * 10**6
# workers, the CPUs and the memory of each server that carry them; three servers carry half as many more
SERVERS_FOR = ((350, 2, 4 * GB), (900, 4, 8 * GB), (1800, 8, 16 * GB), (10**9, 16, 32 * GB))
# OS, driver and two NGC images of 20 GB; OS, etcd with its snapshots, images of what manages the cluster
GPU_DISK, SERVER_DISK = 60 * GIB, 20 * GIB


def _memory(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    host = resolved.site.host
    wanted = sum(node.memory for node in resolved.nodes)
    if host.memory is not None and wanted + host.reserve > host.memory:
        yield (
            ("nodes",),
            f"the VMs pin {show_gib(wanted)} and the host keeps {show_gib(host.reserve)}, "
            f"but it has {show_gib(host.memory)}",
            "passed-through memory cannot be overcommitted: smaller or fewer nodes",
        )


def _disks(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    pools = resolved.site.proxmox.storage
    wanted: Counter[str] = Counter()
    for node in resolved.nodes:
        wanted[pools.os] += node.disk
        wanted[pools.scratch] += node.scratch or 0
    for name, size in resolved.site.host.storage:
        if wanted[name] > size:
            yield (
                ("nodes",),
                f"the disks on {name} add up to {show_gib(wanted[name])}, it has {show_size(size)}: only thin "
                "provisioning hides that, until it is full and every VM on it stops",
                "smaller disks, or another storage",
            )


def _cpus(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    wanted, has = sum(node.cpus for node in resolved.nodes), resolved.site.host.cpus
    # CAP-04 has it when a single VM is too large
    if has is not None and wanted > has >= max((node.cpus for node in resolved.nodes), default=0):
        yield ("nodes",), f"the VMs have {wanted} CPUs, the host {has} threads", "fine for idle nodes; else fewer CPUs"


def _cpus_of_one(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    has = cluster.site.host.cpus
    for loc, prefix, machine in machines(cluster):
        if has is not None and machine.cpus > has:
            wrong = f"{prefix}1 has {machine.cpus} CPUs, the host {has} threads, and Proxmox starts no such VM"
            yield (*loc, "cpus"), wrong, f"{has} at most"


def _reserve(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    host, nodes = resolved.site.host, resolved.nodes
    needed = PROXMOX + sum(QEMU + node.memory // PAGES_MAPPED for node in nodes)
    if host.memory is not None and host.reserve < needed:
        yield (
            ("site", "host", "reserve"),
            f"the host keeps {show_gib(host.reserve)}, but Proxmox VE and QEMU's share of {len(nodes)} VMs take about "
            f"{needed / GIB:.1f}GiB",
            f"{-(-needed // GIB)}GiB at least, and what ZFS may cache",
        )


def _storage_names(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    used = resolved.site.proxmox.storage
    names = sorted({used.os, used.scratch, used.images})
    for name, _size in resolved.site.host.storage:
        if name not in names:
            yield (
                ("site", "host", "storage", name),
                f"nothing of the cluster lies on {name}, so its size checks nothing",
                f"site.proxmox.storage names {', '.join(names)}",
            )


def _beside_etcd(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    pools = resolved.site.proxmox.storage
    # a single member elects nobody: slow writes only make it slow
    if pools.os == pools.scratch and len(resolved.servers) > 1 and any(node.scratch for node in resolved.nodes):
        yield (
            ("site", "proxmox", "storage", "scratch"),
            f"scratch disks lie beside etcd on {pools.os}: their writes hold up etcd, which then changes its leader",
            "another storage for one of them; or limit the scratch disks' speed on the host",
        )


def _least_memory(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, prefix, machine in machines(cluster):
        what, least = ("agent", AGENT) if isinstance(machine, Pool) else ("server", SERVER)
        if machine.memory < least:
            wrong = f"{show_size(machine.memory)} for {prefix}1, a K3s {what} needs {show_size(least)}"
            yield (*loc, "memory"), wrong, "more memory"


def _server_size(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    control, agents, share = cluster.nodes.control_plane, len(resolved.agents), 3 if len(resolved.servers) >= 3 else 2
    cpus, memory = next((cpus, memory) for limit, cpus, memory in SERVERS_FOR if agents * 2 <= limit * share)
    for field, has, wanted, shown in (
        ("cpus", control.cpus, cpus, f"{control.cpus} CPUs, {cpus} are"),
        ("memory", control.memory, memory, f"{show_size(control.memory)}, {show_size(memory)} is"),
    ):
        if control.memory >= SERVER and has < wanted:
            wrong = f"each control plane has {shown} what K3s wants for {agents} worker{'s' * (agents != 1)}"
            yield ("nodes", "control_plane", field), wrong, "larger control planes"


def _image_disk(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, prefix, machine in machines(cluster):
        if not isinstance(machine, Pool):
            least, holds = SERVER_DISK, "etcd, its snapshots and the images of what runs the cluster"
        elif machine.gpus:
            least, holds = GPU_DISK, "the driver and images of 20 GB each"
        else:
            continue
        if machine.disk < least:
            wrong = f"{show_size(machine.disk)} for {prefix}1, which holds the OS, {holds}"
            yield (*loc, "disk"), wrong, f"{show_size(least)} at least"


RULES = (
    Rule(
        "CAP-01", "error", "Memory fits the host", "Passthrough pins all guest memory.", _memory,
        "Proxmox VE docs: PCI(e) passthrough",
    ),
    Rule(
        "CAP-02", "warning", "Disks fit their storage", "Thin pools fill silently and then stop every VM.", _disks,
        "Proxmox VE docs: storage, thin provisioning",
    ),
    Rule(
        "CAP-03", "warning", "CPUs fit the host", "Overcommitted CPUs slow data loading for GPUs.", _cpus,
        "Proxmox VE docs: qm, CPU",
    ),
    Rule(
        "CAP-04", "error", "No VM has more CPUs than the host", "Proxmox refuses to start it.", _cpus_of_one,
        "Proxmox VE docs: qm, CPU; QemuServer.pm (vcpus allowed per VM)",
    ),
    Rule(
        "CAP-05", "warning", "The host keeps enough memory", "Short of memory, it kills VMs.", _reserve,
        "Proxmox VE docs: requirements (2 GB); KubeVirt, GetMemoryOverhead (1/512); 256 MiB a VM is unverified",
    ),
    Rule(
        "CAP-06", "note", "Stated storages are used", "A misspelt name checks nothing.", _storage_names,
        "gpuctl's own design",
    ),
    Rule(
        "CAP-07", "warning", "etcd's disk is not the scratch disks'", "Slow writes make etcd elect new leaders.",
        _beside_etcd, "etcd docs: hardware recommendations, disks",
    ),
    Rule(
        "CAP-08", "error", "Nodes have the memory that K3s needs", "The kernel would kill it.", _least_memory,
        "K3s docs: requirements, hardware",
    ),
    Rule(
        "CAP-09", "warning", "Control planes carry their workers", "The API answers late when they join or report.",
        _server_size, "K3s docs: requirements, server sizing guide",
    ),
    Rule(
        "CAP-10", "warning", "OS disks hold the images", "A full disk evicts pods, and etcd stops.", _image_disk,
        "Kubernetes docs: node-pressure eviction; NVIDIA/TransformerEngine#462 (20 GB); the sums are unverified",
    ),
)  # fmt: skip
