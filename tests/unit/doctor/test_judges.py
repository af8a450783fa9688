"""What cannot be brought about on the emulated server, judged from facts that are made up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuctl.doctor.base import Line
from gpuctl.doctor.facts import Api, Facts, Machine, Spec
from gpuctl.doctor.groups import api, cards, host, machine, server, tools
from gpuctl.phases.provision.preflight import Others
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.load import load
from gpuctl.systems.proxmox import Card, Greeting, PciMapping

FILE = Path(__file__).parents[3] / "examples/homelab.yaml"
SPEC = load(FILE).resolved
assert SPEC
GREETING = Greeting(("pve.example",), datetime.now(UTC) + timedelta(days=300), "", 0.2)
CARDS = [Card(f"0000:{slot}7:00.0", "10de:20b5", "10de:1533", slot, "A100") for slot in range(1, 9)]
API = Api(
    greeting=GREETING,
    version="9.0.10",
    permissions={},
    nodes={"pve": True},
    capacity=(1 << 40, 128),
    stores={},
    bridges={},
    cards=CARDS,
    groups={card.path: card.iommu_group for card in CARDS},
    others=Others([], {}, {}),
    image=False,
    source=None,
    cluster_id="-",
)
MACHINE = Machine("3.11.0", {}, "/home/me", 1 << 40, {}, (), 0, (), {})


def facts(given: Api = API, on: Machine = MACHINE) -> Facts:
    return Facts(on, Spec("cluster.yaml", SPEC, 0, 0), given, None, "root@pve.example")


def line(lines: object, name: str) -> Line:
    return next(found for found in lines if found.name == name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("ahead", "outcome"),
    [(0.4, "ok"), (-4.9, "ok"), (-6.0, "warn"), (290.0, "warn"), (301.0, "fail"), (-4000.0, "fail")],
)
def test_a_clock_that_is_off(ahead: float, outcome: str) -> None:
    found = line(machine.judge(facts(replace(API, greeting=replace(GREETING, ahead=ahead)))), "clock")
    assert found.outcome == outcome
    assert f"{ahead:+.1f} s" in found.measured


def test_a_server_that_tells_no_time_leaves_the_clock_unjudged() -> None:
    untold = replace(API, greeting=replace(GREETING, ahead=None))
    assert line(machine.judge(facts(untold)), "clock").outcome == "not looked at"


@pytest.mark.parametrize(("free", "outcome"), [(3 << 30, "ok"), (1 << 30, "warn"), (100 << 20, "fail")])
def test_little_room(free: int, outcome: str) -> None:
    assert line(machine.judge(facts(on=replace(MACHINE, free=free))), "disk").outcome == outcome


@pytest.mark.parametrize(("days", "outcome"), [(300, "ok"), (10, "warn")])
def test_a_certificate_that_ends_soon(days: int, outcome: str) -> None:
    ends = datetime.now(UTC) + timedelta(days=days)
    found = line(api.judge(facts(replace(API, greeting=replace(GREETING, expires=ends)))), "certificate")
    assert (found.outcome, f"{ends:%Y-%m-%d}" in found.measured) == (outcome, True)


@pytest.mark.parametrize(("version", "outcome"), [("9.0.10", "ok"), ("10.1", "ok"), ("8.4.1", "warn"), ("7.4", "fail")])
def test_versions_of_the_server(version: str, outcome: str) -> None:
    assert line(api.judge(facts(replace(API, version=version))), "version").outcome == outcome


def test_an_image_that_the_server_cannot_fetch() -> None:
    refused = GpuctlError("the Proxmox API refused: 500 could not resolve host")
    found = line(server.judge(facts(replace(API, source=refused))), "image")
    assert found.outcome == "fail"
    assert "could not resolve host" in found.measured
    assert "cloud-images.ubuntu.com" in found.measured


def test_a_mapping_that_proxmox_finds_wrong() -> None:
    assert SPEC
    name = "homelab-wk-gpu1-gpu0"
    broken = PciMapping(name, "gpuctl:homelab:-", (CARDS[0].path,), ("'iommugroup' does not match",))
    given = replace(API, others=Others([], {}, {name: broken}))
    found = line(cards.judge(facts(given)), "free")
    assert (found.outcome, found.measured) == ("fail", f"mapping {name}: 'iommugroup' does not match")
    assert line(cards.judge(facts()), "free").measured == "8 cards for us"


def test_cards_and_the_host_matter_only_to_a_spec_that_wants_cards() -> None:
    assert SPEC
    without = replace(SPEC, nodes=tuple(replace(node, gpus=None) for node in SPEC.nodes))
    given = replace(facts(), spec=Spec("cluster.yaml", without, 0, 0))
    assert list(cards.judge(given)) == list(host.judge(given)) == []
    assert list(cards.judge(facts()))
    assert list(host.judge(facts()))


def test_sops_is_needed_only_where_a_secret_lies_in_it() -> None:
    assert [found.name for found in tools.judge(facts())].count("sops") == 0
    uses = replace(MACHINE, secrets={"sops:secrets.yaml#token": None})
    assert line(tools.judge(facts(on=uses)), "sops").outcome == "fail"
