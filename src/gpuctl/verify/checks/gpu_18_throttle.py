"""How often cards slow down while they are under stress. Not tried on real hardware."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress.judging import split, with_whole_cards

PER_MINUTE, SHORTEST = 0.6, 60.0
LIMIT = f"< {PER_MINUTE} slowdowns a minute, over as long as the stress takes"


def judge(_: Resolved, facts: Facts) -> Measurement:
    found, silent = split(facts.stressed, lambda stress: stress.throttling)
    problems, worst, watched = {}, 0.0, 0.0
    for node, seen in found.items():
        if seen.seconds < SHORTEST:
            silent[node] = f"watched for {seen.seconds:.0f} s only"
            continue
        watched = max(watched, seen.seconds)
        for uuid, times in seen.begun.items():
            rate = 60 * times / seen.seconds
            worst = max(worst, rate)
            if rate >= PER_MINUTE:
                problems[f"{node} {uuid}"] = f"{rate:.1f} a minute"
    measured = f"{worst:.1f} a minute at worst, in {watched / 60:.0f} minutes" if watched else "not measured"
    return over_some(problems, silent, measured, LIMIT, next="cooling; nvidia-smi -q -d PERFORMANCE,TEMPERATURE")


CHECK = Check("GPU-18", "gpu", "the cards are not throttled", ("stress",), judge, "gpud", with_whole_cards)
