"""NCCL between the nodes, against what pods there reach by TCP, which CLU-10 holds against the hosts.

Not tried on real hardware.
"""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts, Path
from gpuctl.verify.stress import whole
from gpuctl.verify.stress.judging import split, with_whole_cards

SHARE = 0.9
LIMIT = f">= {SHARE} x the pods' own TCP; every result right"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    if len(whole(spec)) < 2:
        return Measurement("skipped", "one node", LIMIT, "there is no other node with whole cards")
    found, silent = split(facts.stressed, lambda stress: stress.between)
    problems, speeds = {}, []
    for node, results in found.items():
        path = facts.ways.get(node)
        pods = [speed for speed in path.pods.values() if isinstance(speed, float)] if isinstance(path, Path) else []
        line = min(pods, default=None)
        for peer, result in results.items():
            speeds.append(result.bus)
            if result.wrong:
                problems[f"{node} with {peer}"] = f"{result.wrong} wrong results"
            elif line is None:
                silent[node] = path.what if isinstance(path, GpuctlError) else "the pods' bandwidth is not known"
            elif result.bus * 8e9 < SHARE * line:
                problems[f"{node} with {peer}"] = f"{result.bus:.2f} GB/s of {line / 8e9:.2f}"
    measured = f"{min(speeds):.2f} GB/s at least" if speeds else "not measured"
    return over_some(problems, silent, measured, LIMIT, next="NCCL_SOCKET_IFNAME; gpuctl verify --only CLU-10")


CHECK = Check(
    "GPU-14",
    "gpu",
    "cards of different nodes talk at the pod network's speed",
    ("stress", "paths"),
    judge,
    applies=with_whole_cards,
)
