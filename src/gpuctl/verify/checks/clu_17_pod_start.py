"""A new pod is Ready soon when its image is on the node.

The limit is Kubernetes' own objective for pod startup, which is for the p99 of many pods (kube-burner's 2 s is for an
idle cluster). Of the few that are started here a single hiccup would be the p99: a node is slow when its second pod
was, too.
"""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.starts import SOON_SECONDS, TRIES

LIMIT = f"<= {SOON_SECONDS:.0f} s for one of {TRIES} pods at least on each node, image on the node"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, silent = {}, {}
    every: list[float] = []
    for node in spec.nodes:
        took = facts.started.get(node.name, ())
        if isinstance(took, GpuctlError) or not took:
            silent[node.name] = took.what if isinstance(took, GpuctlError) else "no pod was started"
            continue
        every += took
        if min(took) > SOON_SECONDS:
            problems[node.name] = f"{min(took):.1f} s at best"
    slow = sum(seconds > SOON_SECONDS for seconds in every)
    measured = f"{max(every):.1f} s at worst, {len(every) - slow} of {len(every)} pods in time" if every else "no pod"
    return over_some(
        problems, silent, measured, LIMIT, next="load of the node and of etcd: gpuctl verify --only cluster"
    )


CHECK = Check("CLU-17", "cluster", "a new pod is Ready soon", ("starts",), judge, "Kubernetes SLO")
