"""Every layer from PCI to the scheduler has the cards of the spec."""

from __future__ import annotations

from gpuctl.phases.gpu import observe
from gpuctl.render import gpu
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_cards, with_gpus
from gpuctl.verify.facts import Facts

LIMIT = "PCI = driver = allocatable = spec"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, whole = {}, 0
    for node in gpu.gpu_nodes(spec):
        if host := facts.card_hosts.get(node.name):
            wanted = gpu.offered(spec, node)
            if problem := observe.layer(node, host, facts.cards.offers.get(node.name), wanted):
                problems[node.name] = problem
            else:
                whole += len(host.cards)
    nodes = gpu.gpu_nodes(spec)
    total = sum(node.gpus.count for node in nodes if node.gpus)
    return over_cards(facts, problems, f"{whole} of {total} cards on {len(nodes)} nodes", LIMIT, next="gpuctl gpu")


CHECK = Check(
    "GPU-01", "gpu", "each node offers the GPUs of the spec, through every layer", ("gpus",), judge, applies=with_gpus
)
