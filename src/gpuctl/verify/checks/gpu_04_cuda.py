"""CUDA ran on every card since its host booted and its driver changed. The gpu phase proves; this reads the proof."""

from __future__ import annotations

from gpuctl.phases.gpu import proof
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_cards, with_gpus
from gpuctl.verify.facts import Facts

LIMIT = "every card, since boot and driver last changed"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, held, proven = {}, {}, 0
    for name, host in facts.card_hosts.items():
        offer = facts.cards.offers.get(name)
        left = proof.unproven(host, offer) if offer else {card.uuid for card in host.cards}
        proven += len(host.cards) - len(left)
        if left and offer and not proof.possible(host, offer):
            held[name] = f"{len(left)} cards not proven, held by {offer.holders or 'nobody: the node offers none'}"
        elif left:
            problems[name] = f"CUDA has not run on {', '.join(sorted(left))}"
    total = sum(node.gpus.count for node in spec.nodes if node.gpus)
    measured = f"{proven} of {total} cards proven"
    verdict = over_cards(facts, problems, measured, LIMIT, next="gpuctl gpu")
    if verdict.outcome != "pass":
        return verdict
    if held:
        reason = "; ".join(f"{name}: {words}" for name, words in held.items())
        return Measurement("unknown", measured, LIMIT, reason, next="gpuctl gpu, when the cards are free")
    if proven != total:
        return Measurement("fail", measured, LIMIT, "the drivers list fewer cards than the spec has", next="gpuctl gpu")
    return verdict


CHECK = Check(
    "GPU-04", "gpu", "a CUDA program ran on every card", ("gpus",), judge, "gpu-operator validator", with_gpus
)
