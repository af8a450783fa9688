"""Every NCCL run on a node ends, with right results. Not tried on real hardware."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress import NCCL_SECONDS
from gpuctl.verify.stress.judging import split, with_whole_cards

LIMIT = f"each within {NCCL_SECONDS:.0f} s, 0 wrong results"


def judge(_: Resolved, facts: Facts) -> Measurement:
    found, silent = split(facts.stressed, lambda stress: stress.runs)
    problems, runs = {}, 0
    for node, done in found.items():
        for run in done:
            runs += 1
            where = f"{node} cards {', '.join(map(str, run.cards))}"
            if run.result is None:
                problems[where] = "did not end"
            elif run.result.wrong:
                problems[where] = f"{run.result.wrong} wrong results"
    if not runs and not silent:
        return Measurement("skipped", "no run", LIMIT, "no node has two cards")
    hint = "NCCL_P2P_DISABLE=1 as a test: if it ends then, peer access between the cards is broken (IOMMU, ACS)"
    return over_some(problems, silent, f"{runs - len(problems)} of {runs} runs", LIMIT, next=hint)


CHECK = Check("GPU-15", "gpu", "NCCL does not hang", ("stress",), judge, applies=with_whole_cards)
