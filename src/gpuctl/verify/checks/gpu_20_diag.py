"""DCGM's diagnostics, its whole level. Not tried on real hardware."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress import DIAG_LEVEL
from gpuctl.verify.stress.judging import diagnosed, with_whole_cards

LIMIT = f"every test of level {DIAG_LEVEL} that DCGM does not skip"


def judge(_: Resolved, facts: Facts) -> Measurement:
    return diagnosed(facts, (), LIMIT, next=f"dcgmi diag -r {DIAG_LEVEL} on that node alone")


CHECK = Check("GPU-20", "gpu", "DCGM finds nothing wrong", ("stress",), judge, "DCGM", with_whole_cards)
