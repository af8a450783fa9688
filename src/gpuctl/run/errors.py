"""The one error that reaches the operator: what happened, where, the likely cause, and the exact next command."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")


class Exit(IntEnum):
    """Exit codes; documented, stable."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CHANGES = 3
    CREDENTIALS = 4
    LOCKED = 5
    CHECK_FAILED = 6
    VERIFY_INCOMPLETE = 7
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


class GpuctlError(Exception):
    """Raised by adapters and phases; rendered once, in the CLI. Any of ``where``, ``cause``, ``next`` may be empty.

    ``status``: the HTTP code of the answer that it tells of, 0 when there was none.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        cause: str = "",
        next: str = "",
        exit_code: Exit = Exit.FAILED,
        status: int = 0,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.cause = cause
        self.next = next
        self.exit_code = exit_code
        self.status = status

    def lines(self) -> list[str]:
        """As printed: ``error: ...`` and one indented line for each known part."""
        parts = (("where", self.where), ("cause", self.cause), ("next", self.next))
        shown = [f"  {name:<6}  {line}" for name, text in parts for line in text.splitlines()]
        return [f"error: {self.what}", *shown]

    def to_json(self) -> dict[str, object]:
        """For ``-o json``."""
        parts: dict[str, object] = {"what": self.what, "where": self.where, "cause": self.cause, "next": self.next}
        return {**parts, "notes": list(getattr(self, "__notes__", ())), "exit": int(self.exit_code)}


class Interrupted(GpuctlError):
    """A SIGINT, SIGTERM or SIGHUP ended the run cleanly; the same command continues."""

    def __init__(self, signal_name: str, doing: str) -> None:
        super().__init__(
            f"stopped by {signal_name} while {doing}",
            next="run the same command again to continue",
            exit_code=Exit[signal_name],
        )


class DeadlineExceeded(GpuctlError):
    """A bounded wait ran out."""


def or_error(source: Callable[[], T]) -> T | GpuctlError:
    """What it gives, or the error that it ends with, for whoever judges both."""
    try:
        return source()
    except GpuctlError as error:
        return error
