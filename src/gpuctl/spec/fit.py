"""What nodes offer and which of them can run a notebook: for the rules and for rendering alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuctl.spec.resolved import JupyterHub, Node, Profile, Resolved
from gpuctl.spec.units import GIB, counted, show_size
from gpuctl.spec.versions import table

GPU = "nvidia.com/gpu"
# a notebook rarely computes: processors are shared, memory cannot be
CPU_GUARANTEE = 0.25
# of a guest's memory, its kernel keeps a page descriptor (64 bytes) for each 4 KiB, and itself with the firmware's
# share: the latter is an estimate. K3s reserves nothing, and evicts for disk only
PAGES_PER_DESCRIPTOR = 64
KERNEL = 256 << 20


def gpu_nodes(spec: Resolved) -> tuple[Node, ...]:
    """The nodes with GPUs, in spec order."""
    return tuple(node for node in spec.nodes if node.gpus)


def mig_strategy(nodes: Iterable[Node]) -> str:
    """``single`` while every partitioned card is cut into equal slices, which then are plain nvidia.com/gpu."""
    layouts = {node.gpus.mig for node in nodes if node.gpus and node.gpus.mig}
    if not layouts:
        return "none"
    return "mixed" if "all-balanced" in layouts else "single"


def slices(node: Node) -> dict[str, int]:
    """MIG slices of the node by profile (``1g.10gb``); {} when its cards are whole, or their model is not known."""
    gpus = node.gpus
    if not gpus or not gpus.mig or gpus.model not in table()["gpu_models"]:
        return {}
    known: Mapping[str, int] = table()["gpu_models"][gpus.model]["mig"]
    if gpus.mig == "all-balanced":
        # two of the smallest, one of each of the next two: NVIDIA's default layouts
        return {name: number * gpus.count for name, number in zip(known, (2, 1, 1), strict=False)}
    name = gpus.mig.removeprefix("all-")
    return {name: known[name] * gpus.count} if name in known else {}


def offered(spec: Resolved, node: Node) -> dict[str, int]:
    """What the node must have allocatable, by resource name."""
    if not node.gpus:
        return {}
    if not node.gpus.mig:
        return {GPU: node.gpus.count * node.gpus.replicas}
    return {_resource(spec, name): number for name, number in slices(node).items()}


def _resource(spec: Resolved, slice_name: str) -> str:
    return GPU if mig_strategy(gpu_nodes(spec)) == "single" else f"nvidia.com/mig-{slice_name}"


def request(spec: Resolved, profile: Profile) -> dict[str, int]:
    """What a notebook of this profile asks the scheduler for, by resource name."""
    wanted = {GPU: profile.gpus} if profile.gpus else {}
    for name, number in profile.slices:
        resource = _resource(spec, name)
        wanted[resource] = wanted.get(resource, 0) + number
    return wanted


def memory(node: Node) -> int:
    """Bytes that pods can ask for on the node."""
    return node.memory - node.memory // PAGES_PER_DESCRIPTOR - KERNEL


def untainted(spec: Resolved) -> tuple[Node, ...]:
    """The nodes that take pods which tolerate nothing."""
    return tuple(node for node in spec.nodes if all(taint.effect == "PreferNoSchedule" for taint in node.taints))


def candidates(spec: Resolved) -> tuple[Node, ...]:
    """The nodes that notebooks may use: the workers, and the servers when there are none."""
    return spec.agents or spec.servers


@dataclass(frozen=True)
class Obstacle:
    """Why a node cannot run a profile: the profile's field (in the order they are looked at), and words for both."""

    field: str
    wanted: str
    has: str


FIELDS = ("gpus", "slices", "cpus", "memory", "scratch")


def obstacle(hub: JupyterHub, profile: Profile, node: Node) -> Obstacle | None:
    """What first keeps a notebook of this profile from the node; None when it can run there."""
    gpus = node.gpus
    whole = gpus.count if gpus and not gpus.mig else 0
    if gpus and gpus.sharing == "time-slicing":
        # the device plugin refuses more: two slices may well be of one card
        whole = min(whole, 1)
    if profile.gpus > whole:
        return Obstacle("gpus", counted(profile.gpus, "GPU"), f"{whole or 'none'} for a notebook")
    for name, number in profile.slices:
        if number > (have := slices(node).get(name, 0)):
            return Obstacle("slices", f"{counted(number, 'MIG slice')} {name}", str(have or "none"))
    if profile.cpus and profile.cpus > node.cpus:
        return Obstacle("cpus", f"{profile.cpus:g} CPUs", str(node.cpus))
    if profile.memory and profile.memory > memory(node):
        return Obstacle("memory", f"{show_size(profile.memory)} of memory", f"{memory(node) / GIB:.1f}GiB for pods")
    if hub.scratch and hub.scratch.size > (node.scratch or 0):
        has = show_size(node.scratch) if node.scratch else "no scratch disk"
        return Obstacle("scratch", f"{show_size(hub.scratch.size)} of scratch", has)
    return None


def runners(spec: Resolved, hub: JupyterHub, profile: Profile) -> tuple[Node, ...]:
    """The nodes that can run a notebook of this profile."""
    return tuple(node for node in candidates(spec) if not obstacle(hub, profile, node))
