"""The doctor's lines for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gpuctl.doctor.base import OUTCOMES
from gpuctl.doctor.run import Diagnosis

SIGNS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "not looked at": "-"}


def lines(diagnosis: Diagnosis, clean: Callable[[str], str]) -> Iterator[str]:
    """Grouped, with a hint under what is not right. ``clean`` takes secrets out."""
    width = max((len(line.name) for group in diagnosis.lines.values() for line in group), default=0)
    for group, members in diagnosis.lines.items():
        yield group
        for line in members:
            measured = line.measured if line.outcome != "not looked at" else f"not looked at: {line.measured}"
            yield f"  {SIGNS[line.outcome]:<4}  {line.name:<{width}}  {clean(measured)}"
            if line.hint:
                yield f"        {'':<{width}}  hint: {clean(line.hint)}"
    yield ""
    counts = ", ".join(f"{number} {outcome}" for outcome, number in diagnosis.summary.items() if number)
    failed = diagnosis.summary["fail"]
    yield f"{counts}. " + ("Solve what failed, then run gpuctl doctor again." if failed else f"Next: {diagnosis.next}")


def as_json(diagnosis: Diagnosis, clean: Callable[[str], str]) -> dict[str, object]:
    """For ``-o json``."""
    found = [
        {
            "group": group,
            "name": line.name,
            "outcome": line.outcome,
            "measured": clean(line.measured),
            "hint": clean(line.hint),
        }
        for group, members in diagnosis.lines.items()
        for line in members
    ]
    summary = {outcome: diagnosis.summary[outcome] for outcome in OUTCOMES}
    return {"summary": summary, "lines": found}
