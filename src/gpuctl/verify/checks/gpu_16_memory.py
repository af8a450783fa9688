"""ECC errors and remapped rows, as the driver counts them."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_cards, with_gpus
from gpuctl.verify.facts import Facts

REMAPS = 512
LIMIT = f"no uncorrectable SRAM error, no remap pending or failed, at most {REMAPS} remapped rows"


def judge(_: Resolved, facts: Facts) -> Measurement:
    problems, cards, unknown = {}, 0, []
    for name, host in facts.card_hosts.items():
        for card in host.cards:
            cards += 1
            found = []
            try:
                if int(card.ecc_uncorrectable):
                    found.append(f"{card.ecc_uncorrectable} uncorrectable SRAM errors")
                remapped = int(card.rows["correctable"]) + int(card.rows["uncorrectable"])
            except ValueError:
                unknown.append(f"{name} {card.uuid}")
                continue
            if remapped > REMAPS:
                found.append(f"{remapped} remapped rows")
            found += [
                f"a row remap is {word}" for word in ("pending", "failure") if card.rows[word].lower() in ("yes", "1")
            ]
            if found:
                problems[f"{name} {card.uuid}"] = ", ".join(found)
    measured = f"{cards - len(problems)} of {cards} cards clean"
    verdict = over_cards(
        facts, problems, measured, LIMIT, next="reboot the node (gpuctl plan shows it); if it stays, replace the card"
    )
    if verdict.outcome == "pass" and unknown:
        return Measurement(
            "unknown", measured, LIMIT, f"the driver gives no numbers for {', '.join(unknown)} (ECC off?)"
        )
    return verdict


CHECK = Check("GPU-16", "gpu", "the cards' memory is healthy", ("gpus",), judge, "azurehpc-health-checks", with_gpus)
