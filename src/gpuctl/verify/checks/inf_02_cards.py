"""GPUs of the Proxmox server against the spec, from the configuration of every VM."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.systems.proxmox import cards_of
from gpuctl.verify.base import Check, Measurement, judged, with_gpus
from gpuctl.verify.facts import Facts

LIMIT = "each card in one VM, count as in the spec"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    wanted = {node.vm_id: node for node in spec.nodes}
    server = facts.hypervisor
    owners: dict[str, list[int]] = {}
    for vmid, config in server.configs.items():
        for path in cards_of(config, server.mappings):
            owners.setdefault(path, []).append(vmid)
    problems = {
        f"card {path}": f"given to VMs {', '.join(map(str, vmids))}"
        for path, vmids in owners.items()
        if len(vmids) > 1 and wanted.keys() & set(vmids)
    }
    given = 0
    for vmid, node in wanted.items():
        has = sum(vmids == [vmid] for vmids in owners.values())
        given += has
        count = node.gpus.count if node.gpus else 0
        if has != count:
            problems[node.name] = f"{has} cards instead of {count}"
    for name, mapping in server.mappings.items():
        if mapping.errors and any(path in owners for path in mapping.paths):
            problems[f"mapping {name}"] = ", ".join(mapping.errors)
    nodes = sum(bool(node.gpus) for node in spec.nodes)
    return judged(problems, f"{given} cards in {nodes} VMs", LIMIT, next="gpuctl plan")


CHECK = Check(
    "INF-02",
    "infra",
    "each GPU belongs to exactly one VM, as many as the spec says",
    ("proxmox",),
    judge,
    applies=with_gpus,
)
