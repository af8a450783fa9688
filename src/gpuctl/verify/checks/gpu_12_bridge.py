"""NCCL between cards that an NVLink bridge connects, as nvidia-smi topo -m says. Not tried on real hardware."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress import Stress
from gpuctl.verify.stress.judging import split, with_whole_cards

GB_PER_S = 193.0
LIMIT = f">= {GB_PER_S:.0f} GB/s bus bandwidth"


def _bridged(stress: Stress) -> list[tuple[int, int]] | GpuctlError:
    pairs = stress.pairs
    return pairs if isinstance(pairs, GpuctlError) else [pair for pair, how in pairs.items() if how.startswith("NV")]


def judge(_: Resolved, facts: Facts) -> Measurement:
    bridged, silent = split(facts.stressed, _bridged)
    if not silent and not any(bridged.values()):
        return Measurement("skipped", "no bridge", LIMIT, "no two cards are bridged (nvidia-smi topo -m)")
    runs, mute = split(facts.stressed, lambda stress: stress.runs)
    silent = {node: why for node, why in {**mute, **silent}.items() if node in silent or bridged.get(node)}
    problems, speeds = {}, []
    for node, pairs in bridged.items():
        results = {run.cards: run.result for run in runs.get(node, ())}
        for pair in pairs:
            result = results.get(pair)
            if result is None:
                silent.setdefault(node, f"NCCL between cards {pair[0]} and {pair[1]} did not end")
                continue
            speeds.append(result.bus)
            if result.bus < GB_PER_S:
                problems[f"{node} cards {pair[0]} and {pair[1]}"] = f"{result.bus:.1f} GB/s"
    measured = f"{min(speeds):.1f} GB/s at least, {len(speeds)} pairs" if speeds else "not measured"
    return over_some(problems, silent, measured, LIMIT, next="reseat the bridge; nvidia-smi nvlink -s")


CHECK = Check(
    "GPU-12",
    "gpu",
    "bridged cards talk over the bridge",
    ("stress",),
    judge,
    "azurehpc-health-checks",
    with_whole_cards,
)
