"""DNS of the cluster, asked from every node."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts, Path

LIMIT = "100 of 100 on every node, each within 3 s"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, silent = {}, {}
    resolved = asked = 0
    for node in spec.nodes:
        path = facts.ways.get(node.name)
        if not isinstance(path, Path):
            silent[node.name] = path.what if path else "not measured"
            continue
        resolved, asked = resolved + path.resolved, asked + path.asked
        if path.resolved < path.asked:
            problems[node.name] = f"{path.resolved} of {path.asked}"
    measured = f"{resolved} of {asked} on {len(spec.nodes) - len(silent)} nodes"
    return over_some(problems, silent, measured, LIMIT, next="kubectl -n kube-system logs -l k8s-app=kube-dns")


CHECK = Check(
    "CLU-12", "cluster", "pods on every node resolve names of the cluster", ("paths",), judge, "node-problem-detector"
)
