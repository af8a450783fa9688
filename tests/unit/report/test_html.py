"""The HTML report: self-contained, escaped, complete; the drawing's parts lie where they should."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from gpuctl.phases.gpu.observe import Offer
from gpuctl.report import html
from gpuctl.verify.base import Result
from gpuctl.verify.checks import ALL
from gpuctl.verify.picture import Machine, Pod, draw
from gpuctl.verify.run import Report, judge
from tests.unit.report.test_reports import FAIL, PASS, SKIPPED, UNKNOWN, report
from tests.unit.verify.test_checks import GONE, SPEC, card, healthy, with_card_host, with_gpus, without_card_host

VOID = {"meta", "br", "rect", "circle"}


class Balance(HTMLParser):
    """Refuses tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def whole_report() -> Report:
    facts = with_gpus(
        hosts={**healthy().cards.hosts, "wk-gpu4": GONE},
        offers={**healthy().cards.offers, "wk-gpu1": Offer({"nvidia.com/gpu": 2}, (("a/b", 2),), {}, {})},
    )
    results = tuple(Result(check, judge(check, SPEC, facts)) for check in ALL)
    return Report("homelab", "pve.example", (), "2026-01-01T00:00:00Z", 3.0, results, draw(SPEC, facts))


def test_it_is_one_file_with_everything_in_it() -> None:
    page = html.render(whole_report())
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert {"script", "link", "img", "iframe"} & set(parser.seen) == set()
    assert not re.search(r"https?:|//|@import|url\(|src=", page)
    for check in ALL:
        assert f'<td class="id">{check.id}</td>' in page


def test_what_failed_comes_first_and_is_escaped() -> None:
    page = html.render(report(PASS, *UNKNOWN, SKIPPED, FAIL))
    assert "wk-gpu1: 1 card &lt;less&gt;" in page
    assert "<less>" not in page
    order = [page.index(text) for text in ("INF-02 claim", "INF-05, INF-06", "left out by --skip", "Every check")]
    assert order == sorted(order)
    assert "simulated here" in page
    assert "<li>GPUs</li>" in page
    assert page.index("simulated here") < order[0]


def test_a_report_without_a_drawing_has_none() -> None:
    assert "<svg" not in html.render(report(PASS))


@pytest.mark.parametrize(
    ("facts", "node", "states"),
    [
        (healthy(), "wk-gpu1", ["proven", "proven"]),
        (with_card_host(boot="another"), "wk-gpu1", ["unproven", "unproven"]),
        (with_card_host(cards=(card("GPU-wk-gpu1-0"),)), "wk-gpu1", ["proven", "missing"]),
        (without_card_host(), "wk-gpu1", ["unknown", "unknown"]),
        (with_gpus(offers={}), "wk-gpu1", ["unknown", "unknown"]),
        (replace(healthy(), gpus=None), "wk-gpu1", ["unknown", "unknown"]),
        (healthy(), "cp1", []),
    ],
)
def test_cards_are_drawn_as_they_are(facts: object, node: str, states: list[str]) -> None:
    boxes = html.layout(draw(SPEC, facts).machines)  # type: ignore[arg-type]
    box = next(box for box in boxes if box.machine.name == node)
    assert [slot.state for slot in box.slots] == states


def machine(number: int, role: str = "wk", *, gpus: int = 0, pods: tuple[Pod, ...] = ()) -> Machine:
    return Machine(f"n{number}", role, "10.0.0.1", 4, 1 << 34, 9000, "running", "Ready", gpus, None, pods)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 40])
def test_boxes_lie_inside_and_do_not_overlap(count: int) -> None:
    pods = tuple(Pod(f"ns{n}", "pod", 0, True) for n in range(9))
    machines = tuple(
        machine(n, "control plane" if n < 3 else "wk", gpus=n % 5, pods=pods[: n % 9]) for n in range(count)
    )
    boxes = html.layout(machines)
    assert [box.machine for box in boxes] == list(machines)
    for box in boxes:
        assert 0 < box.x < box.x + box.width < html.WIDTH
        assert all(box.y < slot.y < slot.y + html.CARD_HEIGHT < box.y + box.height for slot in box.slots)
        assert all(box.y < row.y < box.y + box.height for row in box.rows)
    for one, next_one in pairwise(boxes):
        beside = one.y == next_one.y and one.x + one.width < next_one.x
        assert beside or one.y + one.height < next_one.y


def test_holders_come_first_and_no_pod_is_lost() -> None:
    pods = (Pod("hub", "alice", 2, True), *(Pod(f"ns{n}", f"pod{n}", 0, n > 3) for n in range(30)))
    (box,) = html.layout((machine(1, pods=pods),))
    assert (box.rows[0].label, box.rows[0].gpus) == ("alice", 2)
    assert len(box.rows) == html.LINES
    assert sum(len(row.dots) + row.more for row in box.rows) == len(pods)
