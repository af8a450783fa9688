"""A new pod is Ready soon when its image is on the node. With few samples the p99 is the slowest."""

from __future__ import annotations

import math

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts

SECONDS = 2.0
LIMIT = f"p99 <= {SECONDS:.0f} s, image on the node"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, silent = {}, {}
    every: list[float] = []
    for node in spec.nodes:
        took = facts.started.get(node.name, ())
        if isinstance(took, GpuctlError) or not took:
            silent[node.name] = took.what if isinstance(took, GpuctlError) else "no pod was started"
            continue
        every += took
        slow = sorted(seconds for seconds in took if seconds > SECONDS)
        if slow:
            problems[node.name] = f"{len(slow)} of {len(took)} took up to {slow[-1]:.1f} s"
    every.sort()
    p99 = every[math.ceil(0.99 * len(every)) - 1] if every else 0.0
    measured = f"p99 {p99:.2f} s of {len(every)} pods" if every else "not measured"
    if p99 <= SECONDS:
        problems = {}
    return over_some(
        problems, silent, measured, LIMIT, next="load of the node and of etcd: gpuctl verify --only cluster"
    )


CHECK = Check("CLU-17", "cluster", "a new pod is Ready soon", ("starts",), judge, "kube-burner")
