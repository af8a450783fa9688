"""DNS of the cluster, asked from every node."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts, Probe

LIMIT = "100 of 100 on every node, each within 3 s"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, silent = {}, {}
    resolved = asked = 0
    for node in spec.nodes:
        probe = facts.probed.get(node.name)
        if not isinstance(probe, Probe):
            silent[node.name] = probe.what if probe else "no probe pod"
            continue
        resolved, asked = resolved + probe.resolved, asked + probe.asked
        if probe.resolved < probe.asked:
            problems[node.name] = f"{probe.resolved} of {probe.asked}"
    measured = f"{resolved} of {asked} on {len(spec.nodes) - len(silent)} nodes"
    if silent and not problems:
        reason = "; ".join(f"{name}: {why}" for name, why in silent.items())
        return Measurement("unknown", measured, LIMIT, reason, cause=f"no probe on {', '.join(silent)}")
    return judged(problems, measured, LIMIT, next="kubectl -n kube-system logs -l k8s-app=kube-dns")


CHECK = Check(
    "CLU-12", "cluster", "pods on every node resolve names of the cluster", ("probes",), judge, "node-problem-detector"
)
