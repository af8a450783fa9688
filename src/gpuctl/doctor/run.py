"""Facts in, lines out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuctl.doctor.base import OUTCOMES, Line, Outcome
from gpuctl.doctor.facts import Facts
from gpuctl.doctor.groups import GROUPS
from gpuctl.run.errors import Exit


@dataclass(frozen=True)
class Diagnosis:
    """Lines by group, in the order of the groups; groups that have nothing to say are left out. ``next``: command."""

    lines: Mapping[str, tuple[Line, ...]]
    next: str

    @property
    def summary(self) -> dict[Outcome, int]:
        """How many lines have each outcome."""
        seen = [line.outcome for lines in self.lines.values() for line in lines]
        return {outcome: seen.count(outcome) for outcome in OUTCOMES}

    @property
    def exit_code(self) -> Exit:
        return Exit.CHECK_FAILED if self.summary["fail"] else Exit.OK


def diagnose(facts: Facts) -> Diagnosis:
    """Judge everything."""
    judged = {group: tuple(judge(facts)) for group, judge in GROUPS.items()}
    lines = {group: lines for group, lines in judged.items() if lines}
    return Diagnosis(lines, "gpuctl plan" if facts.resolved else "gpuctl init")
