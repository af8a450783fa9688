"""GPUs: each in one VM, as many as there are, and profiles that some node can run."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule


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


def _profiles(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    most = max((node.gpus.count for node in resolved.nodes if node.gpus), default=0)
    for number, profile in enumerate(cluster.jupyterhub.profiles if cluster.jupyterhub else ()):
        if profile.gpus > most:
            yield (
                ("jupyterhub", "profiles", number, "gpus"),
                f"no node can run the profile {profile.name!r}: "
                f"it wants {profile.gpus} GPUs, the largest node has {most}",
                "a notebook lives on one node: use fewer GPUs, or a pool with more per node",
            )


RULES = (
    Rule("GPU-R1", "error", "No GPU given twice", "A passed-through card belongs to one VM.", _once),
    Rule("GPU-R2", "error", "As many GPUs as the host has", "The last VMs would not start.", _enough),
    Rule(
        "GPU-R3",
        "error",
        "Every profile fits a node",
        "A pod cannot span nodes; the notebook would stay pending.",
        _profiles,
    ),
)
