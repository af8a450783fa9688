"""The DCGM exporter has one series set per card."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_cards, with_gpus
from gpuctl.verify.facts import Facts

LIMIT = "one series set per card, of just these cards"


def judge(_: Resolved, facts: Facts) -> Measurement:
    problems, series = {}, 0
    for name, host in facts.card_hosts.items():
        said = facts.cards.exporters.get(name)
        known = {card.uuid for card in host.cards}
        if said is None:
            problems[name] = "no exporter runs there"
        elif isinstance(said, GpuctlError):
            problems[name] = said.what
        else:
            series += len(known & said.keys())
            if missing := known - said.keys():
                problems[name] = f"no metrics of {', '.join(sorted(missing))}"
            elif stale := said.keys() - known:
                problems[name] = f"metrics of cards that are not there: {', '.join(sorted(stale))}"
    return over_cards(
        facts, problems, f"{series} series sets", LIMIT, next="kubectl -n gpu-operator logs ds/nvidia-dcgm-exporter"
    )


CHECK = Check("GPU-21", "gpu", "every card is monitored", ("gpus",), judge, "DCGM exporter", with_gpus)
