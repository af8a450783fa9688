"""The secrets that the spec refers to: can they be read here? Never what they are."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.doctor.base import Line, broken
from gpuctl.doctor.facts import Facts


def judge(facts: Facts) -> Iterator[Line]:
    for reference, error in facts.machine.secrets.items():
        yield broken(reference, error) if error else Line(reference, "ok", "readable")
