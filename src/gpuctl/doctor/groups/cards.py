"""The NVIDIA cards as the Proxmox API tells: enough of the right model, each alone in its IOMMU group, none taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gpuctl.doctor.base import Line, judged, over
from gpuctl.doctor.facts import Api, Facts
from gpuctl.phases.provision import cards as assignment
from gpuctl.phases.provision import preflight
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.units import counted
from gpuctl.spec.versions import gpu_model
from gpuctl.systems.proxmox import Card

IOMMU_OFF = "turn VT-d or AMD-Vi on in the firmware; before kernel 6.8 also intel_iommu=on on the kernel command line"


def judge(facts: Facts) -> Iterator[Line]:
    spec, api = facts.resolved, facts.api
    if spec is None or api is None or not any(node.gpus for node in spec.nodes):
        return
    yield over("present", api.cards, lambda cards: _present(spec, cards))
    yield over("iommu groups", api.groups, lambda groups: _groups(api, groups))
    yield over("free", api.cards, lambda cards: _free(spec, api, cards))


def shared(cards: Iterable[str], groups: Mapping[str, int]) -> dict[str, list[str]]:
    """Devices of other slots in a card's IOMMU group, which would have to go with it; by the card's path."""
    found = {}
    for card in cards:
        group, slot = groups.get(card, -1), card.rpartition(".")[0]
        others = [p for p, g in sorted(groups.items()) if g == group and g >= 0 and p.rpartition(".")[0] != slot]
        if others:
            found[card] = others
    return found


def _present(spec: Resolved, cards: Sequence[Card]) -> Line:
    wanted = Counter[str]()
    for node in spec.nodes:
        if node.gpus:
            wanted[node.gpus.model] += node.gpus.count
    has = Counter(gpu_model(card.id) or card.id for card in cards)
    shown = ", ".join(f"{number} x {model}" for model, number in sorted(has.items())) or "none"
    problems = [f"{number} x {model} wanted" for model, number in wanted.items() if has[model] < number]
    # Proxmox refuses a mapping without it
    problems += [f"{card.path} tells no subsystem" for card in cards if card.subsystem_id.strip(":") == ""]
    if not problems:
        return Line("present", "ok", shown)
    hint = "lspci -nnk -d 10de: on the Proxmox host; then gpus.model and gpus.count, or the card's slot and power"
    return Line("present", "fail", f"{', '.join(problems)}; the node has {shown}", hint)


def _groups(api: Api, groups: Mapping[str, int]) -> Line:
    if isinstance(api.cards, GpuctlError):
        return Line("iommu groups", "not looked at", api.cards.what)
    if off := [card.path for card in api.cards if card.iommu_group < 0]:
        return Line("iommu groups", "fail", f"IOMMU is off: {', '.join(off)} in no group", IOMMU_OFF)
    problems = [f"{card} shares its group with {', '.join(p)}" for card, p in shared(_paths(api.cards), groups).items()]
    numbers = ", ".join(str(card.iommu_group) for card in api.cards)
    return judged("iommu groups", problems, f"each card alone ({numbers})", "another slot, or ACS on in the firmware")


def _free(spec: Resolved, api: Api, cards: Sequence[Card]) -> Line:
    if isinstance(api.others, GpuctlError):
        return Line("free", "not looked at", api.others.what)
    held = preflight.held_cards(spec, api.cluster_id, api.others)
    problems = [
        *preflight.foreign_mappings(spec, api.cluster_id, api.others.mappings),
        *preflight.cards_in_use(spec, api.others.mappings, held),
        *(f"mapping {m.name}: {', '.join(m.errors)}" for m in api.others.mappings.values() if m.errors),
    ]
    try:
        chosen = assignment.assign(spec, cards, api.others.mappings, frozenset(held))
    except GpuctlError as error:
        problems.append(f"{error.what} ({error.cause})")
        chosen = {}
    hint = "qm config ID on the Proxmox host shows who has a card; pvesh get /cluster/mapping/pci the mappings"
    return judged("free", problems, f"{counted(sum(map(len, chosen.values())), 'card')} for us", hint)


def _paths(cards: Sequence[Card]) -> list[str]:
    return [card.path for card in cards]
