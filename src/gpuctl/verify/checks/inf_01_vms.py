"""VMs on the Proxmox server against the spec."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

LIMIT = "all present and running"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    vms = facts.hypervisor.vms
    problems = {}
    for node in spec.nodes:
        vm = vms.get(node.vm_id)
        if vm is None:
            problems[node.name] = f"VM {node.vm_id} does not exist"
        elif vm.name != node.name:
            problems[node.name] = f"VM {node.vm_id} is called {vm.name}"
        elif vm.status != "running":
            problems[node.name] = f"VM {node.vm_id} is {vm.status}"
    running = len(spec.nodes) - len(problems)
    return judged(problems, f"{running} of {len(spec.nodes)} running", LIMIT, next="gpuctl apply")


CHECK = Check("INF-01", "infra", "every VM of the spec runs", ("proxmox",), judge)
