"""Nodes: how many, named how, with which ids, labels and taints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from gpuctl.spec.forms import DOMAIN
from gpuctl.spec.model import Cluster, Pool
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule, machines
from gpuctl.spec.units import GIB

RESERVED = ("kubernetes.io", "k8s.io", "k3s.io")
ALLOWED = (
    "node.kubernetes.io/",
    "node-role.kubernetes.io/",
    *(f"topology.kubernetes.io/{part}" for part in ("region", "zone")),
)
# how the labels begin that somebody else writes (the Operator's switches, nvidia.com/gpu.deploy.*, are the operator's)
_NVIDIA = (
    "cuda.",
    "device-plugin.config",
    "gpu.count",
    "gpu.memory",
    "gpu.present",
    "gpu.product",
    "gpu.replicas",
    "mig",
)
OWNED = {"gpuctl.io/": "gpuctl", **{f"nvidia.com/{name}": "gpuctl and the GPU Operator" for name in _NVIDIA}}
SERVERS_ONLY = tuple(f"node-role.kubernetes.io/{role}" for role in ("control-plane", "etcd", "master"))
# Proxmox VE: pve-vmid
LAST_VM_ID = 999_999_999
# from how many workers on one control plane more of them are worth their memory
MANY_WORKERS = 4
WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def _odd(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    count = cluster.nodes.control_plane.count
    if count % 2 == 0:
        yield (
            ("nodes", "control_plane", "count"),
            f"{count} control planes survive no more failures than {count - 1}",
            f"use {count - 1} or {count + 1}",
        )


def _addressed(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, _prefix, machine in machines(cluster):
        if machine.count != len(machine.addresses):
            wrong = f"{len(machine.addresses)} addresses for {machine.count} nodes"
            yield (*loc, "addresses"), wrong, "give each node one address"


def _names(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    pools: set[str] = set()
    nodes: dict[str, str] = {}
    for loc, prefix, machine in machines(cluster):
        if prefix in pools:
            by = " by the control planes" if prefix == "cp" else ""
            yield (*loc, "name"), f"the name {prefix!r} is taken{by}", "choose another name"
            continue
        pools.add(prefix)
        names = [f"{prefix}{index + 1}" for index in range(machine.count)]
        if taken := next((name for name in names if name in nodes), None):
            wrong = f"the node {taken} would be one of {nodes[taken]!r} and of {prefix!r}"
            yield (*loc, "name"), wrong, "choose a name that does not end in a digit"
        nodes |= dict.fromkeys(names, prefix)


def _disks(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, _prefix, machine in machines(cluster):
        scratch = machine.scratch if isinstance(machine, Pool) else None
        for field, size in (("disk", machine.disk), ("scratch", scratch)):
            if size is not None and (size % GIB or size < 8 * GIB):
                yield (*loc, field), "a disk is a whole number of GiB, 8 at least", "write it like 100GiB"


def _labels(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, _prefix, machine in machines(cluster):
        for key in machine.labels:
            domain = key.partition("/")[0] if "/" in key else ""
            if f".{domain}".endswith(tuple(f".{name}" for name in RESERVED)) and not key.startswith(ALLOWED):
                yield (*loc, "labels", key), f"the label {key} belongs to Kubernetes", "use a domain of your own"
            elif owner := next((who for start, who in OWNED.items() if key.startswith(start)), None):
                yield (*loc, "labels", key), f"the label {key} belongs to {owner}", "use a domain of your own"
            elif key in SERVERS_ONLY and isinstance(machine, Pool):
                wrong = f"the label {key} makes control planes of workers, and notebooks stay away from those"
                yield (*loc, "labels", key), wrong, "leave it to the control planes"
        for number, (key, _value, _effect) in enumerate(machine.taints):
            if key.startswith("node.kubernetes.io/"):
                wrong = f"Kubernetes sets and removes the taint {key} itself"
                yield (*loc, "taints", number), wrong, "a key of your own domain"


def _single(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    workers = len(resolved.agents)
    if cluster.nodes.control_plane.count == 1 and workers >= MANY_WORKERS:
        yield (
            ("nodes", "control_plane", "count"),
            f"{workers} workers hang on one control plane: while it is down or updated, nothing starts or moves",
            "3 survive the loss of one",
        )


def _one_host(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    count = cluster.nodes.control_plane.count
    if count > 3 and count % 2:
        yield (
            ("nodes", "control_plane", "count"),
            f"all {count} control planes are VMs of {cluster.site.proxmox.node} and fall with it",
            "3 are enough for updates and for the loss of a VM; every further one slows etcd's writes",
        )


def _ids(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    lan = cluster.network.cidr
    last = max((node for node in resolved.nodes if node.address in lan), key=lambda node: node.vm_id, default=None)
    if last and last.vm_id > LAST_VM_ID:
        room = LAST_VM_ID - (last.vm_id - cluster.site.proxmox.vm_id_base)
        yield (
            ("site", "proxmox", "vm_id_base"),
            f"{last.name} would have the VM id {last.vm_id}, Proxmox ends at {LAST_VM_ID}",
            f"{room} at most",
        )


def _well_formed(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, _prefix, machine in machines(cluster):
        for key, value in machine.labels.items():
            if wrong := _malformed(key, value):
                yield (*loc, "labels", key), f"Kubernetes refuses the label {key}={value}: {wrong}", "change it"
        seen = Counter((key, effect) for key, _value, effect in machine.taints)
        for number, (key, value, effect) in enumerate(machine.taints):
            place: Loc = (*loc, "taints", number)
            if wrong := _malformed(key, value):
                yield place, f"Kubernetes refuses the taint {key}={value}: {wrong}", "change it"
            if seen[key, effect] > 1:
                yield place, f"Kubernetes refuses a second taint {key} with {effect}", "leave one of them"


def _malformed(key: str, value: str) -> str:
    """What Kubernetes would refuse about a key and its value; "" when nothing."""
    domain, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(DOMAIN, domain):
        return f"{domain!r} is no DNS name"
    for word in (name, value or name):
        if not WORD.fullmatch(word):
            return f"{word!r} is not 1 to 63 letters, digits and -_. between them"
    return ""


def _workers(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if resolved.jupyterhub and not cluster.nodes.pools:
        yield (
            ("nodes",),
            "there are no workers: notebooks would run on the control planes, beside etcd and the API",
            "add a pool",
        )


RULES = (
    Rule(
        "TOP-01", "error", "Odd number of control planes", "etcd needs a majority: 2 of 3, 3 of 5.", _odd,
        "etcd FAQ: why an odd number of members",
    ),
    Rule(
        "TOP-02", "error", "One address per node", "Addresses are static; VM ids follow from them.", _addressed,
        "gpuctl's own design",
    ),
    Rule(
        "TOP-03", "error", "Names are unique", "A node's name is its VM's, its host's and its Kubernetes name.", _names,
        "Kubernetes docs: nodes (node name uniqueness); K3s docs: requirements",
    ),
    Rule(
        "TOP-04", "error", "Disks are whole GiB",
        "Proxmox allocates whole GiB; less than 8 leaves beside a cloud image (Ubuntu's: 3.5) no room for K3s.", _disks,
        "bpg/proxmox provider: disk.size, 8 by default; how much K3s needs is unverified",
    ),
    Rule(
        "TOP-05", "error", "No labels or taints of others", "Whose they are sets them too, or acts by them.", _labels,
        "Kubernetes docs: labels and selectors, well-known labels, annotations and taints; GPU Operator documentation",
    ),
    Rule(
        "TOP-06", "warning", "Many workers have more than one control plane", "One control plane is no redundancy.",
        _single, "K3s docs: high availability embedded etcd; the number of workers is a judgement",
    ),
    Rule(
        "TOP-07", "note", "No more control planes than help", "VMs of one host are no redundancy of hardware.",
        _one_host, "etcd FAQ: maximum cluster size",
    ),
    Rule(
        "TOP-08", "error", "VM ids are Proxmox's", "Proxmox refuses larger ids.", _ids,
        "Proxmox VE docs, qm(1): vmid 100 - 999999999",
    ),
    Rule(
        "TOP-09", "error", "Labels and taints are well-formed", "The API server refuses others.", _well_formed,
        "Kubernetes docs: labels and selectors, taints and tolerations",
    ),
    Rule(
        "TOP-10", "warning", "Notebooks have workers", "A notebook that fills a server's memory or disk stops etcd.",
        _workers, "etcd docs: hardware recommendations",
    ),
)  # fmt: skip
