"""The variables of ``templates/terraform``: a pure function of the resolved spec and the cards that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuctl.spec.resolved import Image, Node, Resolved

GIB = 1 << 30


@dataclass(frozen=True)
class ChosenCard:
    """A card for one slot of a node. ``mapping`` is its PCI mapping's name; the rest as Proxmox reports it."""

    mapping: str
    path: str
    id: str
    subsystem_id: str
    iommu_group: int


def mark(resolved: Resolved, cluster_id: str) -> str:
    """What marks VMs and mappings as ours."""
    return f"gpuctl:{resolved.name}:{cluster_id}"


def image_of(resolved: Resolved) -> Image:
    """The image that is imported: the site's copy where it has one."""
    return resolved.site.mirrors.os_image or resolved.image


def image_file(resolved: Resolved) -> str:
    """Its file on the storage: one per cluster and content, so that destroy never takes another cluster's."""
    return f"{resolved.name}-{image_of(resolved).checksum[:12]}.qcow2"


def mapping_name(resolved: Resolved, node: Node, index: int) -> str:
    return f"{resolved.name}-{node.name}-gpu{index}"


def variables(
    resolved: Resolved, *, cluster_id: str, keys: Sequence[str], cards: Mapping[str, Sequence[ChosenCard]]
) -> dict[str, Any]:
    """The content of gpuctl.auto.tfvars.json. ``cards`` by node name."""
    proxmox, network, image = resolved.site.proxmox, resolved.network, image_of(resolved)
    return {
        "endpoint": proxmox.endpoint,
        "proxmox_node": proxmox.node,
        "mark": mark(resolved, cluster_id),
        "image": {
            "url": image.url,
            "checksum": image.checksum,
            "checksum_algorithm": image.checksum_algorithm,
            "file_name": image_file(resolved),
            "datastore": proxmox.storage.images,
        },
        "storage": {"os": proxmox.storage.os, "scratch": proxmox.storage.scratch},
        "network": {
            "bridge": proxmox.bridge,
            "gateway": str(network.gateway),
            "dns": [str(address) for address in network.dns],
            "search_domain": network.search_domain,
            "vlan": network.vlan,
            "mtu": network.mtu,
        },
        "ssh": {"user": resolved.ssh.user, "keys": list(keys)},
        "cards": {
            card.mapping: {
                "path": card.path,
                "id": card.id,
                "iommu_group": card.iommu_group,
                "subsystem_id": card.subsystem_id,
            }
            for chosen in cards.values()
            for card in chosen
        },
        "nodes": {node.name: _node(resolved, node, cards.get(node.name, ())) for node in resolved.nodes},
    }


def _node(resolved: Resolved, node: Node, cards: Sequence[ChosenCard]) -> dict[str, Any]:
    return {
        "vm_id": node.vm_id,
        "address": f"{node.address}/{resolved.network.cidr.prefixlen}",
        "cpus": node.cpus,
        "memory_mib": node.memory >> 20,
        "disk_gib": node.disk // GIB,
        "scratch_gib": node.scratch // GIB if node.scratch else None,
        "cards": [card.mapping for card in cards],
        # as Proxmox stores them: lower case, each once, sorted
        "tags": sorted({"gpuctl", resolved.name, node.role.replace("_", "-"), node.pool}),
    }
