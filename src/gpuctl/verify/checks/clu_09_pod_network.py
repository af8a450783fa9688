"""The pod network, between all pairs of nodes."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts, Path

LIMIT = "all pairs, 0 % loss"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    names = [node.name for node in spec.nodes]
    pairs = len(names) * (len(names) - 1)
    if not pairs:
        return Measurement("skipped", "one node", LIMIT, "there is no other node to reach")
    problems, silent, good = {}, {}, 0
    for name in names:
        path = facts.ways.get(name)
        if not isinstance(path, Path):
            silent[name] = path.what if path else "not measured"
            continue
        lossy = {peer: lost for peer, lost in path.lost.items() if lost}
        good += len(path.lost) - len(lossy)
        if lossy:
            problems[name] = ", ".join(f"{lost} % lost to {peer}" for peer, lost in lossy.items())
    measured = f"{good} of {pairs} pairs without loss"
    return over_some(problems, silent, measured, LIMIT, next="UDP 8472 between the hosts; nft list ruleset on both")


CHECK = Check("CLU-09", "cluster", "a pod on every node reaches a pod on every other node", ("paths",), judge)
