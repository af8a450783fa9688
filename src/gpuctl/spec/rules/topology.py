"""Nodes: how many, named how, with which ids, labels and taints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule

GIB = 1 << 30
RESERVED = ("kubernetes.io", "k8s.io", "k3s.io")
ALLOWED = ("node.kubernetes.io/", "node-role.kubernetes.io/")


def _machines(cluster: Cluster) -> Iterator[tuple[Loc, str]]:
    yield ("nodes", "control_plane"), "control_plane"
    for number, pool in enumerate(cluster.nodes.pools):
        yield ("nodes", "pools", number), pool.name


def _odd(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    count = cluster.nodes.control_plane.count
    if count % 2 == 0:
        yield (
            ("nodes", "control_plane", "count"),
            f"{count} control planes survive no more failures than {count - 1}",
            f"use {count - 1} or {count + 1}",
        )


def _addressed(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    machines = [(("nodes", "control_plane"), cluster.nodes.control_plane)]
    listed: list[tuple[Loc, int, int]] = [(loc, m.count, len(m.addresses)) for loc, m in machines]
    listed += [(("nodes", "pools", n), p.count, len(p.addresses)) for n, p in enumerate(cluster.nodes.pools)]
    for loc, count, addresses in listed:
        if count != addresses:
            yield (*loc, "addresses"), f"{addresses} addresses for {count} nodes", "give each node one address"


def _names(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    pools = Counter(pool.name for pool in cluster.nodes.pools)
    for number, pool in enumerate(cluster.nodes.pools):
        if pools[pool.name] > 1 or pool.name == "cp":
            yield ("nodes", "pools", number, "name"), f"the name {pool.name!r} is taken", "choose another name"
    for name, count in Counter(node.name for node in resolved.nodes).items():
        if count > 1 and not any(pools[p.name] > 1 or p.name == "cp" for p in cluster.nodes.pools):
            yield ("nodes", "pools"), f"{count} nodes would be named {name}", "rename a pool"


def _disks(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    parts: list[tuple[Loc, int | None]] = [(("nodes", "control_plane", "disk"), cluster.nodes.control_plane.disk)]
    for number, pool in enumerate(cluster.nodes.pools):
        parts += [
            (("nodes", "pools", number, "disk"), pool.disk),
            (("nodes", "pools", number, "scratch"), pool.scratch),
        ]
    for loc, size in parts:
        if size is not None and (size % GIB or size < 8 * GIB):
            yield loc, "a disk is a whole number of GiB, 8 at least", "write it like 100GiB"


def _labels(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    everything = [
        (loc, cluster.nodes.control_plane if name == "control_plane" else None) for loc, name in _machines(cluster)
    ]
    pools = list(cluster.nodes.pools)
    for loc, control in everything:
        machine = control or pools[int(loc[-1])]
        for key in machine.labels:
            domain = key.partition("/")[0] if "/" in key else ""
            if domain.endswith(RESERVED) and not key.startswith(ALLOWED):
                yield (*loc, "labels", key), f"the label {key} belongs to Kubernetes", "use a domain of your own"


RULES = (
    Rule("TOP-01", "error", "Odd number of control planes", "etcd needs a majority: 2 of 3, 3 of 5.", _odd),
    Rule("TOP-02", "error", "One address per node", "Addresses are static; VM ids follow from them.", _addressed),
    Rule(
        "TOP-03", "error", "Names are unique", "A node's name is its VM's, its host's and its Kubernetes name.", _names
    ),
    Rule("TOP-04", "error", "Disks are whole GiB", "Proxmox allocates whole GiB; less than 8 holds no OS.", _disks),
    Rule("TOP-05", "error", "No labels of Kubernetes' own", "The API server refuses them.", _labels),
)
