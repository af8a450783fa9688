"""What every layer says of the GPUs: PCI, driver, runtime, allocatable, who holds them, what was proven."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from gpuctl.context import Context
from gpuctl.render import gpu
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node

PROOF = "gpuctl.io/cuda-proof"
HOST_SECONDS = 120.0
WORKERS = 32


@dataclass(frozen=True)
class Card:
    """A card as its driver describes it. ``rows``: remapped rows; numbers and flags are the driver's own words."""

    uuid: str
    bus: str
    name: str
    driver: str
    persistence: str
    ecc_uncorrectable: str
    rows: Mapping[str, str]


@dataclass(frozen=True)
class Host:
    """A host with GPUs. ``toolkit``: the runtime is installed; ``runtime``: K3s' containerd knows it.

    ``barriers``: the files by which the Operator's validator marks what works; ``error``: why the driver is silent.
    """

    boot: str
    pci: tuple[str, ...]
    cards: tuple[Card, ...]
    toolkit: bool
    runtime: bool
    barriers: tuple[str, ...]
    error: str

    @property
    def driver(self) -> str:
        return self.cards[0].driver if self.cards else ""


@dataclass(frozen=True)
class Offer:
    """What a Node object offers. ``held``: (pod, slots) of pods with GPUs; ``proven``: UUIDs proven as things are."""

    allocatable: Mapping[str, int]
    held: tuple[tuple[str, int], ...]
    labels: Mapping[str, str]
    proof: Mapping[str, Any]

    def proven(self, host: Host) -> frozenset[str]:
        """UUIDs with a proof since the host's last boot and the driver's last change."""
        if (self.proof.get("boot"), self.proof.get("driver")) != (host.boot, host.driver):
            return frozenset()
        return frozenset(self.proof.get("cards", ()))

    @property
    def held_slots(self) -> int:
        return sum(slots for _, slots in self.held)

    @property
    def holders(self) -> str:
        return ", ".join(name for name, _ in self.held)


def hosts(ctx: Context) -> dict[str, Host | GpuctlError]:
    """Every host that should have GPUs, by node name; the error of one that could not be looked at."""
    script = (files("gpuctl.phases.gpu") / "on_host.py").read_text(encoding="utf-8")
    nodes = gpu.gpu_nodes(ctx.spec)
    with ThreadPoolExecutor(max_workers=max(1, min(WORKERS, len(nodes)))) as pool:
        found = pool.map(lambda node: _host(ctx, node, script), nodes)
        return {node.name: host for node, host in zip(nodes, found, strict=True)}


def _host(ctx: Context, node: Node, script: str) -> Host | GpuctlError:
    try:
        deadline = ctx.deadline(HOST_SECONDS, f"looking at the cards of {node.name}")
        done = ctx.ssh.run(node, f"python3 - <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT", deadline=deadline)
        said = json.loads(done.stdout)
        cards = tuple(Card(**card) for card in said["cards"])
        pci, barriers = tuple(said["pci"]), tuple(said["barriers"])
        return Host(said["boot"], pci, cards, said["toolkit"], said["runtime"], barriers, said["error"])
    except GpuctlError as error:
        return error
    except (ValueError, KeyError, TypeError) as error:
        return GpuctlError(
            f"the cards of {node.name} could not be looked at",
            where=f"host {node.name} ({node.address})",
            cause=done.stderr.strip()[-500:] or str(error),
        )


def offers(ctx: Context) -> dict[str, Offer]:
    """What the Node objects of our GPU nodes offer; a node that is not in the cluster is missing."""
    names = {node.name for node in gpu.gpu_nodes(ctx.spec)}
    held: dict[str, list[tuple[str, int]]] = {}
    for pod in ctx.kubernetes.list("/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed"):
        count = sum(slots(container) for container in pod["spec"]["containers"])
        if count and pod["spec"].get("nodeName") in names:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            held.setdefault(pod["spec"]["nodeName"], []).append((name, count))
    found = {}
    for node in ctx.kubernetes.nodes():
        metadata, name = node["metadata"], str(node["metadata"]["name"])
        if name in names:
            allocatable = node["status"].get("allocatable", {})
            found[name] = Offer(
                {key: int(value) for key, value in allocatable.items() if key.startswith("nvidia.com/")},
                tuple(sorted(held.get(name, ()))),
                metadata.get("labels") or {},
                _proof((metadata.get("annotations") or {}).get(PROOF, "")),
            )
    return found


def slots(container: Mapping[str, Any]) -> int:
    """GPUs, or slices and shares of them, that a container asks for."""
    limits = (container.get("resources") or {}).get("limits") or {}
    return sum(int(count) for name, count in limits.items() if name.startswith("nvidia.com/"))


def _proof(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def mig_state(node: Node, offer: Offer) -> str:
    """What the MIG manager says of the node's layout; "" where none is asked for."""
    return offer.labels.get(gpu.MIG_STATE, "pending") if node.gpus and node.gpus.mig else ""


def layer(node: Node, host: Host, offer: Offer | None, wanted: Mapping[str, int]) -> str:
    """At which layer the counts first disagree with the spec, in words; "" when they agree."""
    count = node.gpus.count if node.gpus else 0
    if len(host.pci) != count:
        return f"PCI: the host has {len(host.pci)} cards instead of {count}"
    if host.error:
        return f"driver: {host.error}"
    if len(host.cards) != count:
        return f"driver: nvidia-smi lists {len(host.cards)} of {count} cards"
    if not host.toolkit:
        return "toolkit: the NVIDIA container runtime is not installed"
    if not host.runtime:
        return "runtime: K3s' containerd does not know the NVIDIA runtime (it looks for it at its start)"
    if offer is None:
        return "node: it is not in the cluster"
    if mig_state(node, offer) not in ("", "success"):
        layout = node.gpus.mig if node.gpus else ""
        return f"MIG: cutting the cards to {layout} is {mig_state(node, offer)}"
    have = {name: offer.allocatable.get(name, 0) for name in wanted}
    if have != dict(wanted):
        pairs = ", ".join(f"{name} {have[name]} of {number}" for name, number in wanted.items())
        return f"device plugin: the node offers {pairs}"
    return ""
