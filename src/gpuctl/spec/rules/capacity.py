"""What the VMs take from the host, against what the site says it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule
from gpuctl.spec.units import show_size

GIB = 1 << 30


def _gib(count: int) -> str:
    return f"{count / GIB:.0f}GiB"


def _memory(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    host = resolved.site.host
    wanted = sum(node.memory for node in resolved.nodes)
    if host.memory is not None and wanted + host.reserve > host.memory:
        yield (
            ("nodes",),
            f"the VMs pin {_gib(wanted)} and the host keeps {_gib(host.reserve)}, but it has {_gib(host.memory)}",
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
                f"the disks on {name} add up to {_gib(wanted[name])}, it has {show_size(size)}: only thin provisioning "
                "hides that, until it is full and every VM on it stops",
                "smaller disks, or another storage",
            )


def _cpus(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    wanted, has = sum(node.cpus for node in resolved.nodes), resolved.site.host.cpus
    if has is not None and wanted > has:
        yield ("nodes",), f"the VMs have {wanted} CPUs, the host {has} threads", "fine for idle nodes; else fewer CPUs"


RULES = (
    Rule("CAP-01", "error", "Memory fits the host", "Passthrough pins all guest memory.", _memory),
    Rule("CAP-02", "warning", "Disks fit their storage", "Thin pools fill silently and then stop every VM.", _disks),
    Rule("CAP-03", "warning", "CPUs fit the host", "Overcommitted CPUs slow data loading for GPUs.", _cpus),
)
