"""A pod that asked for no GPU sees none, also when it sets NVIDIA_VISIBLE_DEVICES=all."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_hosts, with_gpus
from gpuctl.verify.facts import Facts

LIMIT = "0 cards in a pod that asked for none"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    seen = {name: cards for name, cards in facts.intruded.items() if not isinstance(cards, GpuctlError)}
    silent = {name: cards for name, cards in facts.intruded.items() if isinstance(cards, GpuctlError)}
    problems = {name: f"a pod that asked for none sees {count} cards" for name, count in seen.items() if count}
    measured = f"{sum(seen.values())} cards in {len(seen)} pods"
    return over_hosts(
        facts,
        problems,
        measured,
        LIMIT,
        unreached=silent,
        next="gpuctl gpu (the toolkit must not accept NVIDIA_VISIBLE_DEVICES of unprivileged pods)",
    )


CHECK = Check("GPU-07", "gpu", "pods see only the cards that they asked for", ("intruders",), judge, applies=with_gpus)
