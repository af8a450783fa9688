"""CPUs and memory as the host sees them."""

from __future__ import annotations

from gpuctl.spec import fit
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_hosts
from gpuctl.verify.facts import Facts

LIMIT = "CPUs exact, memory within 3 %, or less by what the kernel keeps"
TOLERANCE = 0.03


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems = {}
    worst = 0.0
    for node in spec.nodes:
        host = facts.reached.get(node.name)
        if host is None:
            continue
        off = host.memory / node.memory - 1
        worst = off if abs(off) > abs(worst) else worst
        if host.cpus != node.cpus:
            problems[node.name] = f"{host.cpus} CPUs instead of {node.cpus}"
        # of a small machine the kernel keeps more than the tolerance
        elif off > TOLERANCE or (off < -TOLERANCE and host.memory < fit.memory(node)):
            problems[node.name] = f"memory is {off:+.1%} of the spec's"
    measured = f"{len(facts.reached)} hosts, memory {worst:+.1%} at worst"
    return over_hosts(facts, problems, measured, LIMIT, next="gpuctl plan; ballooning must be off")


CHECK = Check(
    "INF-06", "infra", "every host has the CPUs and the memory of the spec", ("hosts",), judge, "azurehpc-health-checks"
)
