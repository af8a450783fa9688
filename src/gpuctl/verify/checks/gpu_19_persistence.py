"""Persistence mode: without it the first job after a pause pays for loading the driver."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_cards, with_gpus
from gpuctl.verify.facts import Facts

LIMIT = "on, on every card"


def judge(_: Resolved, facts: Facts) -> Measurement:
    cards = [(name, card) for name, host in facts.card_hosts.items() for card in host.cards]
    problems = {
        f"{name} {card.uuid}": card.persistence or "not said"
        for name, card in cards
        if card.persistence.lower() not in ("enabled", "on")
    }
    measured = f"on, on {len(cards) - len(problems)} of {len(cards)} cards"
    return over_cards(
        facts, problems, measured, LIMIT, next="nvidia-smi -pm 1 on the node; the driver container does it"
    )


CHECK = Check("GPU-19", "gpu", "persistence mode is on", ("gpus",), judge, "azurehpc-health-checks", with_gpus)
