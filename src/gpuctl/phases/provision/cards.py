"""Which card goes to which node: pure, stable for mappings that exist, in the order of PCI addresses for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpuctl.render.terraform import ChosenCard, mapping_name
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.systems.proxmox import Card, PciMapping


def assign(
    spec: Resolved, cards: Sequence[Card], mappings: Mapping[str, PciMapping], held: frozenset[str] = frozenset()
) -> dict[str, tuple[ChosenCard, ...]]:
    """Cards by node name. ``held``: paths that VMs of others have. GpuctlError: too few, or a named one is missing."""
    by_path = {card.path: card for card in cards}
    slots = [
        (node, index, mapping_name(spec, node, index))
        for node in spec.nodes
        if node.gpus
        for index in range(node.gpus.count)
    ]
    names = {name for _, _, name in slots}
    # a card that a mapping of somebody else points to is theirs
    foreign = {path for name, m in mappings.items() if name not in names for path in m.paths} | held
    taken: dict[str, str] = {}
    for node, index, name in slots:
        wanted = node.gpus.devices[index] if node.gpus and index < len(node.gpus.devices) else ""
        existing = mappings[name].paths[0] if name in mappings and mappings[name].paths else ""
        path = _full(wanted, by_path) if wanted else existing
        if wanted and path not in by_path:
            raise GpuctlError(
                f"{node.name}: there is no NVIDIA card {wanted} in {spec.site.proxmox.node}",
                where=str(node.source),
                cause=f"the node has {', '.join(by_path) or 'none'}",
                next="correct gpus.devices",
            )
        if path:
            taken[path] = name
    free = [card.path for card in sorted(cards) if card.path not in taken and card.path not in foreign]
    chosen: dict[str, tuple[ChosenCard, ...]] = {}
    given = {name: path for path, name in taken.items()}
    for node, _index, name in slots:
        if name not in given:
            if not free:
                raise GpuctlError(
                    f"{spec.site.proxmox.node} has too few free NVIDIA cards for {node.name}",
                    where=str(node.source),
                    cause=f"{len(cards)} cards, {len(foreign)} of them given to others, {len(slots)} wanted",
                    next="fewer GPUs in the spec, or free a card",
                )
            given[name] = free.pop(0)
        card = by_path.get(given[name])
        if card is None:
            raise GpuctlError(
                f"the card {given[name]} of {node.name} is no longer in {spec.site.proxmox.node}",
                where=f"mapping {name}",
                cause="it was removed, moved to another slot, or has failed",
                next="put it back; or name another one in gpus.devices and use --replace " + node.name,
            )
        one = ChosenCard(name, card.path, card.id, card.subsystem_id, card.iommu_group)
        chosen[node.name] = (*chosen.get(node.name, ()), one)
    return chosen


def _full(wanted: str, by_path: Mapping[str, Card]) -> str:
    """``17:00.0`` and ``0000:17:00`` mean ``0000:17:00.0`` too."""
    return next(
        (path for path in by_path if wanted in (path, path.removeprefix("0000:"), path.rpartition(".")[0])), wanted
    )
