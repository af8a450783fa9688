"""What the judges of the stress share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Measurement, over_some, with_gpus
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress import Stress, whole

T = TypeVar("T")


def with_whole_cards(spec: Resolved) -> str:
    """``applies`` of all of them."""
    return with_gpus(spec) or ("" if whole(spec) else "every card is shared: no pod gets one as it is")


def split(
    found: Mapping[str, Stress | GpuctlError], part: Callable[[Stress], T | GpuctlError]
) -> tuple[dict[str, T], dict[str, str]]:
    """A part of what was found, by node; and why it is missing, by node."""
    values: dict[str, T] = {}
    silent: dict[str, str] = {}
    for name, stress in found.items():
        value = stress if isinstance(stress, GpuctlError) else part(stress)
        if isinstance(value, GpuctlError):
            silent[name] = value.what
        else:
            values[name] = value
    return values, silent


def diagnosed(facts: Facts, tests: Collection[str], limit: str, *, next: str) -> Measurement:
    """By the verdicts of DCGM's tests (all of them when none is named). What DCGM skips is not proven."""
    found, silent = split(facts.stressed, lambda stress: stress.diagnoses)
    problems, passed, other = {}, 0, {}
    for node, diagnoses in found.items():
        chosen = [d for d in diagnoses if not tests or d.test in tests]
        for d in chosen:
            where = f"{node} GPU {d.gpu} {d.test}"
            passed += d.status == "pass"
            if d.status == "fail":
                problems[where] = d.says or "failed"
            elif d.status != "pass":
                other[where] = d.status
        if not any(d.status in ("pass", "fail") for d in chosen):
            silent[node] = "DCGM ran none of these tests"
    if tests:
        silent |= other
    measured = f"{passed} passed, {len(problems)} failed, {len(other)} neither"
    return over_some(problems, silent, measured, limit, next=next)
