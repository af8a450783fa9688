"""SSH and guest agent of every host."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

LIMIT = "100 %, each within 5 s"
SECONDS = 5.0


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems = {name: f"no SSH: {error.what}" for name, error in facts.unreached.items()}
    reached, agents = facts.reached, facts.hypervisor.agents
    slowest = 0.0
    for node in spec.nodes:
        if host := reached.get(node.name):
            slowest = max(slowest, host.clock.answered)
            if host.clock.answered > SECONDS:
                problems[node.name] = f"SSH took {host.clock.answered:.1f} s"
        agent = agents.get(node.vm_id)
        if agent is None:
            problems.setdefault(node.name, "its guest agent does not answer")
        elif agent > SECONDS:
            problems.setdefault(node.name, f"its guest agent took {agent:.1f} s")
        slowest = max(slowest, agent or 0.0)
    measured = f"{len(spec.nodes) - len(problems)} of {len(spec.nodes)}, slowest {slowest:.1f} s"
    return judged(problems, measured, LIMIT, next="gpuctl status; the console of the VM shows why")


CHECK = Check(
    "INF-05",
    "infra",
    "every host answers SSH, every guest agent answers",
    (
        "proxmox",
        "hosts",
    ),
    judge,
)
