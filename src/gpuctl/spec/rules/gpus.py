"""GPUs: each in one VM, as many as there are, and profiles that some node can run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpuctl.spec import fit
from gpuctl.spec.model import Cluster, Pool
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule
from gpuctl.spec.versions import table

# what the assignment of cards understands: the whole address, without its domain, or without its function
PCI = re.compile(r"([0-9a-f]{4}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]|[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]")


def _device_lists(cluster: Cluster) -> Iterator[tuple[Loc, Pool, list[list[str]]]]:
    """The pools that name their cards: where, the pool, its lists."""
    for number, pool in enumerate(cluster.nodes.pools):
        if pool.gpus and pool.gpus.devices:
            yield ("nodes", "pools", number, "gpus", "devices"), pool, pool.gpus.devices


def _full(device: str) -> str:
    """``0000:17:00.0`` of ``17:00.0`` and ``0000:17:00``."""
    if device.count(":") == 1:
        device = f"0000:{device}"
    return device if "." in device else f"{device}.0"


def _once(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    seen: dict[str, str] = {}
    for loc, pool, lists in _device_lists(cluster):
        for index, devices in enumerate(lists):
            owner = f"{pool.name}{index + 1}"
            for device in devices:
                if (card := _full(device)) in seen:
                    yield (*loc, index), f"the card {device} is given to {seen[card]} and {owner}", "give it once"
                seen.setdefault(card, owner)


def _listed(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, pool, lists in _device_lists(cluster):
        assert pool.gpus
        if len(lists) != pool.count:
            yield loc, f"{len(lists)} lists of cards for {pool.count} nodes", "one list per node"
        for index, devices in enumerate(lists):
            if len(devices) != pool.gpus.count:
                wrong = f"{pool.name}{index + 1} names {len(devices)} cards, count is {pool.gpus.count}"
                yield (*loc, index), wrong, "make them agree"


def _address(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, _pool, lists in _device_lists(cluster):
        for index, devices in enumerate(lists):
            for number, device in enumerate(devices):
                if not PCI.fullmatch(device):
                    wrong = f"{device!r} is not the PCI address of a card"
                    yield (*loc, index, number), wrong, "as `lspci -D` on the Proxmox node prints it: 0000:17:00.0"


def _enough(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    has, wanted = resolved.site.host.gpus, sum(node.gpus.count for node in resolved.nodes if node.gpus)
    if has is not None and wanted > has:
        yield ("nodes", "pools"), f"the pools want {wanted} GPUs, the host has {has}", "fewer nodes or fewer GPUs each"


def _model(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    known, refused = table()["gpu_models"], table()["gpu_models_refused"]
    for number, pool in enumerate(cluster.nodes.pools):
        if not pool.gpus or (model := pool.gpus.model) in known:
            continue
        why = next((reason for part, reason in refused.items() if part in model.lower()), None)
        wrong = (
            f"{model} is refused: {why}"
            if why
            else f"the model {model!r} is not known, so neither its labels nor its layouts can be checked"
        )
        yield ("nodes", "pools", number, "gpus", "model"), wrong, f"known: {', '.join(sorted(known))}"


def _layout(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for number, pool in enumerate(cluster.nodes.pools):
        if not pool.gpus:
            continue
        loc = ("nodes", "pools", number, "gpus", "mig")
        sharing = pool.gpus.sharing or cluster.gpu.sharing
        layouts = table()["gpu_models"].get(pool.gpus.model, {}).get("mig")
        if sharing != "mig":
            if pool.gpus.mig:
                yield loc, f"a MIG layout, but sharing is {sharing}", "set sharing: mig, or remove the layout"
        elif not pool.gpus.mig:
            yield loc[:-1], "sharing is mig, but no layout is given", "set mig, e.g. all-balanced"
        elif layouts is not None and pool.gpus.mig not in {"all-balanced", *(f"all-{name}" for name in layouts)}:
            options = ", ".join(["all-balanced", *(f"all-{name}" for name in layouts)])
            yield loc, f"a {pool.gpus.model} cannot be cut into {pool.gpus.mig!r}", f"one of {options}"


def _mixed(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if resolved.jupyterhub:
        return  # its profiles choose their nodes, and HUB-R12 says where they cannot
    nodes = fit.gpu_nodes(resolved)
    plain = [(node, node.gpus) for node in nodes if node.gpus and fit.GPU in fit.offered(resolved, node)]
    kinds = {gpus.mig or gpus.sharing: node.pool for node, gpus in plain}
    if len(kinds) > 1:
        number = next(n for n, pool in enumerate(cluster.nodes.pools) if pool.name == list(kinds.values())[-1])
        wrong = f"{' and '.join(sorted(kinds.values()))} share their cards differently, and all are {fit.GPU}"
        yield ("nodes", "pools", number, "gpus"), wrong, "pods choose by a node selector, or share all pools alike"


RULES = (
    Rule(
        "GPU-R1", "error", "No GPU given twice", "A passed-through card belongs to one VM.", _once,
        "Proxmox VE docs: PCI(e) passthrough (a device passed through is for no other VM)",
    ),
    Rule(
        "GPU-R2", "error", "As many GPUs as the host has", "The last VMs would not start.", _enough,
        "gpuctl's assignment of cards (phases/provision/cards.py)",
    ),
    Rule(
        "GPU-R4", "error", "The card's model is known and can be passed on", "Labels and MIG layouts depend on it.",
        _model, "NVIDIA Fabric Manager User Guide, virtualization models; spec/versions.yaml",
    ),
    Rule(
        "GPU-R5", "error", "The MIG layout fits the card", "The MIG manager would fail on the node.", _layout,
        "NVIDIA MIG User Guide, supported MIG profiles",
    ),
    Rule(
        "GPU-R6", "error", "Every node's cards are listed", "Which card is whose would be left to chance.", _listed,
        "gpuctl's assignment of cards (phases/provision/cards.py)",
    ),
    Rule(
        "GPU-R7", "error", "Cards are named by PCI address", "No card of the host would be found.", _address,
        "lspci(8), option -D; Proxmox VE docs: PCI(e) passthrough, VM configuration (hostpci)",
    ),
    Rule(
        "GPU-R8", "note", "One resource name, one kind of card", "A pod gets whichever is free.", _mixed,
        "NVIDIA, MIG Support in Kubernetes, single strategy; GPU Operator documentation, time-slicing",
    ),
)  # fmt: skip
