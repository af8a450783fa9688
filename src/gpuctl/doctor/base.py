"""What the doctor says about one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from gpuctl.run.errors import GpuctlError

Outcome = Literal["ok", "warn", "fail", "not looked at"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "warn", "fail", "not looked at")
T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """``measured``: what is there, or why nobody knows. ``hint``: what to do; never empty for warn and fail."""

    name: str
    outcome: Outcome
    measured: str
    hint: str = ""


def over(name: str, fact: T | GpuctlError, judge: Callable[[T], Line]) -> Line:
    """The verdict on a fact; one that could not be had is not looked at."""
    return unseen(name, fact) if isinstance(fact, GpuctlError) else judge(fact)


def unseen(name: str, why: GpuctlError) -> Line:
    return Line(name, "not looked at", why.what)


def broken(name: str, error: GpuctlError) -> Line:
    """An error that is the finding itself, with its own way out."""
    cause = f": {', '.join(error.cause.splitlines())}" if error.cause else ""
    return Line(name, "fail", f"{error.what}{cause}", error.next or "gpuctl doctor again; see docs/troubleshooting.md")


def judged(name: str, problems: Iterable[str], measured: str, hint: str) -> Line:
    """Ok when there are no problems; else a fail that names them."""
    found = list(problems)
    return Line(name, "fail", "; ".join(found), hint) if found else Line(name, "ok", measured)
