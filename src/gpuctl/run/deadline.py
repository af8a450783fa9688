"""A moment by which something must be done, passed down so that waits inside waits share it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event as Flag

from gpuctl.run.errors import DeadlineExceeded, GpuctlError


@dataclass(frozen=True)
class Deadline:
    """``at`` is on the monotonic clock (seconds). ``what`` names the wait in the error. ``stop`` ends it early."""

    at: float
    what: str
    seconds: float
    stop: Flag

    @classmethod
    def after(cls, seconds: float, what: str, stop: Flag | None = None) -> Deadline:
        """A deadline ``seconds`` from now."""
        return cls(time.monotonic() + seconds, what, seconds, stop or Flag())

    def within(self, seconds: float, what: str) -> Deadline:
        """A nearer deadline for a part of this one; never later than this one."""
        return Deadline(min(self.at, time.monotonic() + seconds), what, seconds, self.stop)

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        return self.left == 0.0

    def check(self, *, where: str = "", cause: str = "", next: str = "") -> None:
        """Raise DeadlineExceeded when expired."""
        if self.expired:
            raise DeadlineExceeded(
                f"{self.what}: not done within {self.seconds:.0f} s", where=where, cause=cause, next=next
            )

    def ticks(self, every: float) -> Iterator[float]:
        """Yield the seconds left, now and then ``every`` seconds, until expired (once also with nothing left).

        GpuctlError when it is stopped.
        """
        while True:
            yield self.left
            if self.expired:
                return
            if self.stop.wait(min(every, self.left)):
                raise GpuctlError(f"{self.what}: interrupted")

    def until(self, condition: Callable[[], bool], *, every: float = 1.0) -> bool:
        """Wait for the condition; whether it came true in time. GpuctlError when it is stopped."""
        return any(condition() for _ in self.ticks(every))
