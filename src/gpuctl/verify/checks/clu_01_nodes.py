"""Kubernetes nodes against the spec."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

LIMIT = "the nodes of the spec, all Ready"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    live = {str(node["metadata"]["name"]): node for node in facts.cluster.nodes}
    problems = dict.fromkeys(live.keys() - {node.name for node in spec.nodes}, "not in the spec")
    for node in spec.nodes:
        seen = live.get(node.name)
        if seen is None:
            problems[node.name] = "not in the cluster"
            continue
        conditions = {c["type"]: c for c in seen["status"].get("conditions", ())}
        ready = conditions.get("Ready", {})
        if ready.get("status") != "True":
            problems[node.name] = f"not Ready: {ready.get('message', 'it never reported')}"
        elif seen["spec"].get("unschedulable"):
            problems[node.name] = "cordoned"
    bad = [node.name for node in spec.nodes if node.name in problems]
    measured = f"{len(spec.nodes) - len(bad)} of {len(spec.nodes)} Ready"
    return judged(problems, measured, LIMIT, next="gpuctl bootstrap; journalctl -u k3s on the host")


CHECK = Check(
    "CLU-01",
    "cluster",
    "every node of the spec is Ready and schedulable, and there is no other",
    ("kubernetes",),
    judge,
    "Talos",
)
