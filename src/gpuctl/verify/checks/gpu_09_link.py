"""The PCIe link of every card, under load. Not tried on real hardware.

The width is told, not judged: virtual root ports show others than the real one.
"""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress.judging import split, with_whole_cards

GENERATION = 3
LIMIT = f"generation >= {GENERATION}"


def judge(_: Resolved, facts: Facts) -> Measurement:
    found, silent = split(facts.stressed, lambda stress: stress.links)
    links = {f"{node} {uuid}": link for node, by_card in found.items() for uuid, link in by_card.items()}
    problems = {
        where: f"generation {link.generation} under load"
        for where, link in links.items()
        if link.generation < GENERATION
    }
    seen = sorted({f"gen {link.generation} x{link.width}" for link in links.values()})
    return over_some(problems, silent, ", ".join(seen) or "not measured", LIMIT, next="the slot; pcie=1 and q35")


CHECK = Check("GPU-09", "gpu", "every card's link is fast", ("stress",), judge, "DCGM", with_whole_cards)
