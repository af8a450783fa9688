"""The GPU Operator's own barriers."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_cards, with_gpus
from gpuctl.verify.facts import Facts

BARRIERS = ("driver-ready", "toolkit-ready", "cuda-ready", "plugin-ready")
LIMIT = f"ready, {', '.join(BARRIERS)} on every node"


def judge(_: Resolved, facts: Facts) -> Measurement:
    problems = {}
    for name, host in facts.card_hosts.items():
        if missing := [barrier for barrier in BARRIERS if barrier not in host.barriers]:
            problems[name] = f"no {', '.join(missing)}"
    if facts.cards.policy != "ready":
        problems["ClusterPolicy"] = facts.cards.policy or "there is none, or it says nothing"
    measured = f"{facts.cards.policy or 'silent'}, barriers on {len(facts.card_hosts)} nodes"
    return over_cards(facts, problems, measured, LIMIT, next="kubectl -n gpu-operator get pods; gpuctl gpu")


CHECK = Check(
    "GPU-02",
    "gpu",
    "the GPU Operator has validated driver, toolkit, CUDA and device plugin",
    ("gpus",),
    judge,
    "gpu-operator validator",
    with_gpus,
)
