"""The cards' memory bandwidth, by DCGM's own test and limit. Not tried on real hardware."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress.judging import diagnosed, with_whole_cards

LIMIT = "DCGM's of the card's id: 970 GB/s (20f1), 1121 GB/s (20b5)"


def judge(_: Resolved, facts: Facts) -> Measurement:
    return diagnosed(facts, ("memory_bandwidth",), LIMIT, next="ECC and clocks: nvidia-smi -q -d ECC,CLOCK on the node")


CHECK = Check("GPU-10", "gpu", "the cards' memory is fast", ("stress",), judge, "DCGM", with_whole_cards)
