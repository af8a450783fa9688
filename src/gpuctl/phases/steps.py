"""A plan as steps: every change beside the one way to carry it out, decided when it was planned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gpuctl.context import Context
from gpuctl.phases.base import Change
from gpuctl.run.errors import GpuctlError


@dataclass(frozen=True)
class Step:
    """``run`` carries out what was decided, to its end: what it made is ready when it returns."""

    change: Change
    run: Callable[[], None]


def carry_out(ctx: Context, steps: Iterable[Step]) -> None:
    """One step after the other; an interrupt stops between two."""
    for step in steps:
        if ctx.stop.is_set():
            raise GpuctlError("stopped")
        step.run()
