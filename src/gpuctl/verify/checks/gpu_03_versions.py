"""One driver everywhere, and the Operator release of the spec."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_cards, with_gpus
from gpuctl.verify.facts import Facts


def judge(spec: Resolved, facts: Facts) -> Measurement:
    drivers = {name: host.driver for name, host in facts.card_hosts.items() if host.driver}
    operator, wanted = facts.cards.operator, spec.gpu.driver_version
    limit = f"Operator {spec.gpu.operator}, driver {wanted or 'the same everywhere'}"
    problems = {}
    if operator != spec.gpu.operator:
        problems["GPU Operator"] = f"{operator or 'not installed'} instead of {spec.gpu.operator}"
    if wanted:
        problems |= {
            name: f"driver {driver} instead of {wanted}" for name, driver in drivers.items() if driver != wanted
        }
    elif len(set(drivers.values())) > 1:
        problems |= {name: f"driver {driver}" for name, driver in drivers.items()}
    measured = f"Operator {operator or 'none'}, driver {', '.join(sorted(set(drivers.values()))) or 'none'}"
    return over_cards(facts, problems, measured, limit, next="gpuctl gpu")


CHECK = Check("GPU-03", "gpu", "driver and GPU Operator are those of the spec", ("gpus",), judge, applies=with_gpus)
