"""API servers one by one, and through the virtual IP."""

from __future__ import annotations

import math

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

LIMIT = "all ready, p99 <= 1 s"
SECONDS = 1.0


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems = {}
    worst = 0.0
    endpoints = facts.cluster.endpoints
    for name, endpoint in endpoints.items():
        if endpoint.error or len(endpoint.latencies) < endpoint.asked:
            problems[name] = endpoint.error or "not every request was answered"
            continue
        slowest = sorted(endpoint.latencies)[math.ceil(0.99 * len(endpoint.latencies)) - 1]
        worst = max(worst, slowest)
        if slowest > SECONDS:
            problems[name] = f"p99 {slowest:.2f} s"
    measured = f"{len(endpoints) - len(problems)} of {len(endpoints)} ready, p99 {worst * 1000:.0f} ms"
    return judged(problems, measured, LIMIT, next="systemctl status k3s keepalived on the server")


CHECK = Check(
    "CLU-07", "cluster", "the API answers on every server and on the VIP", ("kubernetes",), judge, "kube-burner"
)
