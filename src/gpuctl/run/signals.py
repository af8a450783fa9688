"""SIGINT and SIGTERM set a flag that every wait watches; the second one raises KeyboardInterrupt at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event as Flag
from types import FrameType


@dataclass
class Stop:
    """``flag`` is set by the first signal, whose name is kept."""

    flag: Flag = field(default_factory=Flag)
    signal_name: str = ""


@contextmanager
def handled(stop: Stop, say: Callable[[str], None]) -> Iterator[None]:
    """Install the handlers for the block. ``say`` is called at once with what happens next."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.flag.is_set():
            raise KeyboardInterrupt
        stop.signal_name = signal.Signals(number).name
        stop.flag.set()
        say(
            f"{stop.signal_name}: finishing what is under way and stopping; again to abandon it "
            "(what is half made is repaired by the next run)"
        )

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
