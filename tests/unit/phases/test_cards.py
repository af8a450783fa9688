"""Which card goes to which node: stable where mappings exist, never somebody else's, never one that is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.phases.provision import cards
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.load import load
from gpuctl.spec.resolved import NodeGpus, Resolved
from gpuctl.systems.proxmox import Card, PciMapping

_loaded = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
assert _loaded
SPEC: Resolved = _loaded
CARDS = [Card(f"0000:{n:02x}:00.0", "10de:20b5", "10de:1533", n, "A100") for n in range(1, 9)]


def paths(spec: Resolved, found: list[Card], mappings: dict[str, PciMapping]) -> dict[str, list[str]]:
    return {name: [card.path for card in chosen] for name, chosen in cards.assign(spec, found, mappings).items()}


def mapping(name: str, path: str) -> dict[str, PciMapping]:
    return {name: PciMapping(name, "", (path,), ())}


def test_every_card_is_given_once_in_the_order_of_addresses() -> None:
    given = paths(SPEC, CARDS, {})
    assert given["wk-gpu1"] == ["0000:01:00.0", "0000:02:00.0"]
    assert sorted(path for chosen in given.values() for path in chosen) == [card.path for card in CARDS]


def test_what_exists_stays_where_it_is() -> None:
    given = paths(SPEC, CARDS, mapping("homelab-wk-gpu4-gpu1", "0000:01:00.0"))
    assert given["wk-gpu4"][1] == "0000:01:00.0"
    assert given["wk-gpu1"] == ["0000:02:00.0", "0000:03:00.0"]


def test_a_card_of_somebody_elses_mapping_is_not_taken() -> None:
    with pytest.raises(GpuctlError, match="too few free NVIDIA cards for wk-gpu4"):
        paths(SPEC, CARDS, mapping("their-card", "0000:05:00.0"))


def test_a_card_that_somebody_elses_vm_holds_is_not_taken() -> None:
    one = tuple(node for node in SPEC.nodes if node.name == "wk-gpu1")
    chosen = cards.assign(replace(SPEC, nodes=one), CARDS, {}, frozenset({"0000:01:00.0"}))
    assert [card.path for card in chosen["wk-gpu1"]] == ["0000:02:00.0", "0000:03:00.0"]


def test_a_mapped_card_that_is_gone_is_named() -> None:
    with pytest.raises(GpuctlError, match="no longer in pve") as caught:
        paths(SPEC, CARDS[1:], mapping("homelab-wk-gpu1-gpu0", "0000:01:00.0"))
    assert "--replace wk-gpu1" in caught.value.next


def test_named_devices_are_honoured_however_they_are_written() -> None:
    first = SPEC.node("wk-gpu1")
    gpus = NodeGpus("a100-pcie-80gb", 2, devices=("08:00.0", "0000:07:00"))
    nodes = tuple(replace(node, gpus=gpus) if node == first else node for node in SPEC.nodes)
    given = paths(replace(SPEC, nodes=nodes), CARDS, {})
    assert given["wk-gpu1"] == ["0000:08:00.0", "0000:07:00.0"]
    missing = tuple(
        replace(node, gpus=replace(gpus, devices=("99:00.0", "07:00.0"))) if node == first else node
        for node in SPEC.nodes
    )
    with pytest.raises(GpuctlError, match=r"no NVIDIA card 99:00\.0"):
        paths(replace(SPEC, nodes=missing), CARDS, {})
