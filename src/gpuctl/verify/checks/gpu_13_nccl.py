"""NCCL among all cards of a node that are not all bridged, against this cluster's first measurement.

How the cards are connected decides, not their name. Not tried on real hardware.
"""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress import of_all, whole
from gpuctl.verify.stress.judging import with_whole_cards

SHARE, FOUR_CARDS = 0.9, 25.0
LIMIT = f">= {SHARE} x the first measurement; four cards and more >= {FOUR_CARDS:.0f} GB/s"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, silent, speeds, about = {}, {}, [], 0
    for node in whole(spec):
        stress, count = facts.stressed[node.name], node.gpus.count if node.gpus else 0
        if count < 2:
            continue
        if isinstance(stress, GpuctlError) or isinstance(stress.pairs, GpuctlError):
            error = stress if isinstance(stress, GpuctlError) else stress.pairs
            silent[node.name] = error.what if isinstance(error, GpuctlError) else ""
            continue
        if all(how.startswith("NV") for how in stress.pairs.values()):
            continue
        about += 1
        bus = None if isinstance(stress.runs, GpuctlError) else of_all(stress.runs, count)
        if bus is None:
            silent[node.name] = stress.runs.what if isinstance(stress.runs, GpuctlError) else "NCCL did not end"
            continue
        speeds.append(bus)
        if count >= 4 and bus < FOUR_CARDS:
            problems[node.name] = f"{bus:.1f} GB/s among {count} cards"
        elif stress.baseline is not None and bus < SHARE * stress.baseline:
            problems[node.name] = f"{bus:.1f} GB/s, {stress.baseline:.1f} at first"
        elif stress.baseline is None and count < 4:
            silent[node.name] = f"its first measurement ({bus:.1f} GB/s) is what later ones are held against"
    if not about and not silent:
        return Measurement("skipped", "no such node", LIMIT, "no node has cards that are not all bridged")
    measured = f"{min(speeds):.1f} GB/s at least" if speeds else "not measured"
    return over_some(
        problems, silent, measured, LIMIT, next="nvidia-smi topo -m against the slots; NUMA node of the VM"
    )


CHECK = Check(
    "GPU-13",
    "gpu",
    "a node's cards work together as fast as ever",
    ("stress",),
    judge,
    "azurehpc-health-checks",
    with_whole_cards,
)
