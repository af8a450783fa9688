"""GPUs: each in one VM, as many as there are, and profiles that some node can run."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule
from gpuctl.spec.versions import table


def _once(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    seen: dict[str, str] = {}
    for number, pool in enumerate(cluster.nodes.pools):
        if not pool.gpus or not pool.gpus.devices:
            continue
        loc = ("nodes", "pools", number, "gpus", "devices")
        if len(pool.gpus.devices) != pool.count:
            yield loc, f"{len(pool.gpus.devices)} lists of cards for {pool.count} nodes", "one list per node"
        for index, devices in enumerate(pool.gpus.devices):
            owner = f"{pool.name}{index + 1}"
            if len(devices) != pool.gpus.count:
                yield (
                    (*loc, index),
                    f"{owner} names {len(devices)} cards, count is {pool.gpus.count}",
                    "make them agree",
                )
            for device in devices:
                if device in seen:
                    yield (*loc, index), f"the card {device} is given to {seen[device]} and {owner}", "give it once"
                seen.setdefault(device, owner)


def _enough(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    has, wanted = resolved.site.host.gpus, sum(node.gpus.count for node in resolved.nodes if node.gpus)
    if has is not None and wanted > has:
        yield ("nodes", "pools"), f"the pools want {wanted} GPUs, the host has {has}", "fewer nodes or fewer GPUs each"


def _model(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    known = table()["gpu_models"]
    for number, pool in enumerate(cluster.nodes.pools):
        if pool.gpus and pool.gpus.model not in known:
            loc = ("nodes", "pools", number, "gpus", "model")
            way_out = f"known: {', '.join(sorted(known))}"
            if "sxm" in pool.gpus.model.lower():
                yield (
                    loc,
                    f"{pool.gpus.model}: SXM cards hang together by NVSwitch; passing some of them on fails",
                    way_out,
                )
            else:
                yield (
                    loc,
                    f"the model {pool.gpus.model!r} is not known, so its labels and layouts are not checked",
                    way_out,
                )


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


RULES = (
    Rule("GPU-R1", "error", "No GPU given twice", "A passed-through card belongs to one VM.", _once),
    Rule("GPU-R2", "error", "As many GPUs as the host has", "The last VMs would not start.", _enough),
    Rule("GPU-R4", "error", "The card's model is known", "Labels and MIG layouts depend on it.", _model),
    Rule("GPU-R5", "error", "The MIG layout fits the card", "The MIG manager would fail on the node.", _layout),
)
