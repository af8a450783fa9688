"""The pod network, between all pairs of nodes."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts, Probe

LIMIT = "all pairs, 0 % loss"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    names = [node.name for node in spec.nodes]
    pairs = len(names) * (len(names) - 1)
    if not pairs:
        return Measurement("skipped", "one node", LIMIT, "there is no other node to reach")
    problems, silent, good = {}, {}, 0
    for name in names:
        probe = facts.probed.get(name)
        if not isinstance(probe, Probe):
            silent[name] = probe.what if probe else "no probe pod"
            continue
        lossy = {peer: lost for peer, lost in probe.loss.items() if lost}
        good += len(probe.loss) - len(lossy)
        if lossy:
            problems[name] = ", ".join(f"{lost} % lost to {peer}" for peer, lost in lossy.items())
    measured = f"{good} of {pairs} pairs without loss"
    verdict = judged(problems, measured, LIMIT, next="UDP 8472 between the hosts; nft list ruleset on both")
    if good < pairs and not problems:
        reason = "; ".join(f"{name}: {why}" for name, why in silent.items())
        return Measurement("unknown", measured, LIMIT, reason, cause=f"no probe on {', '.join(silent)}")
    return verdict


CHECK = Check("CLU-09", "cluster", "a pod on every node reaches a pod on every other node", ("probes",), judge)
