"""Matrix products at full load, by DCGM's own tests and targets. Not tried on real hardware."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress.judging import diagnosed, with_whole_cards

LIMIT = "DCGM's target of the card's id"


def judge(_: Resolved, facts: Facts) -> Measurement:
    return diagnosed(facts, ("targeted_stress", "diagnostic"), LIMIT, next="power cap: nvidia-smi -q -d POWER")


CHECK = Check("GPU-11", "gpu", "the cards bear full load", ("stress",), judge, "DCGM", with_whole_cards)
