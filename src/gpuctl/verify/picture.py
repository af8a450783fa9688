"""The cluster as verify saw it, for the report's drawing: a pure function of spec and facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpuctl.phases.gpu import observe, proof
from gpuctl.phases.gpu.observe import Host as CardHost
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node, Resolved
from gpuctl.verify import probes
from gpuctl.verify.facts import Cluster, Facts, Gpus, Hypervisor

ABSENT, UNKNOWN = "absent", "unknown"


@dataclass(frozen=True)
class Card:
    """A card by its UUID. ``proof``: whether CUDA ran on it since boot and driver last changed."""

    uuid: str
    name: str
    proof: Literal["proven", "unproven", "unknown"]


@dataclass(frozen=True)
class Pod:
    """A pod that has not ended. ``gpus``: slots it holds; ``ready``: as its conditions say."""

    namespace: str
    name: str
    gpus: int
    ready: bool


@dataclass(frozen=True)
class Machine:
    """A node of the spec. ``vm``: running, stopped, absent, unknown; ``kubernetes``: Ready, NotReady, absent, unknown.

    ``gpus``: cards of the spec; ``cards``: those its driver lists, None when nobody could look.
    """

    name: str
    role: str
    address: str
    cpus: int
    memory: int
    vm_id: int
    vm: str
    kubernetes: str
    gpus: int
    cards: tuple[Card, ...] | None
    pods: tuple[Pod, ...]


@dataclass(frozen=True)
class Picture:
    """The Proxmox node and what is on it; ``addresses``: the virtual IPs by what they are for."""

    hypervisor: str = ""
    addresses: tuple[tuple[str, str], ...] = ()
    machines: tuple[Machine, ...] = ()


def draw(spec: Resolved, facts: Facts) -> Picture:
    """What was not gathered, or did not answer, is unknown."""
    network = spec.network
    addresses = [("API", str(network.api_vip))]
    if network.ingress_vip:
        addresses.append(("ingress", str(network.ingress_vip)))
    return Picture(spec.site.proxmox.node, tuple(addresses), tuple(_machine(node, facts) for node in spec.nodes))


def _machine(node: Node, facts: Facts) -> Machine:
    vm = kubernetes = UNKNOWN
    pods: tuple[Pod, ...] = ()
    if isinstance(facts.proxmox, Hypervisor):
        machine = facts.proxmox.vms.get(node.vm_id)
        vm = machine.status if machine else ABSENT
    if isinstance(facts.kubernetes, Cluster):
        ready = {str(item["metadata"]["name"]): probes.is_ready(item) for item in facts.kubernetes.nodes}
        kubernetes = {True: "Ready", False: "NotReady", None: ABSENT}[ready.get(node.name)]
        pods = tuple(_pod(pod) for pod in facts.kubernetes.pods if _runs_on(pod, node.name))
    return Machine(
        node.name,
        "control plane" if node.is_server else node.pool,
        str(node.address),
        node.cpus,
        node.memory,
        node.vm_id,
        vm,
        kubernetes,
        node.gpus.count if node.gpus else 0,
        _cards(node, facts.gpus),
        tuple(sorted(pods, key=lambda pod: (-pod.gpus, pod.namespace, pod.name))),
    )


def _cards(node: Node, gpus: Gpus | GpuctlError | None) -> tuple[Card, ...] | None:
    host = gpus.hosts.get(node.name) if isinstance(gpus, Gpus) else None
    if not isinstance(gpus, Gpus) or not isinstance(host, CardHost):
        return None
    offer = gpus.offers.get(node.name)
    left = proof.unproven(host, offer) if offer else None
    return tuple(
        Card(card.uuid, card.name, "unknown" if left is None else "unproven" if card.uuid in left else "proven")
        for card in host.cards
    )


def _runs_on(pod: Mapping[str, Any], node: str) -> bool:
    return pod["spec"].get("nodeName") == node and pod["status"].get("phase") not in ("Succeeded", "Failed")


def _pod(pod: Mapping[str, Any]) -> Pod:
    metadata = pod["metadata"]
    slots = sum(observe.slots(container) for container in pod["spec"].get("containers", ()))
    return Pod(str(metadata["namespace"]), str(metadata["name"]), slots, probes.is_ready(pod))
