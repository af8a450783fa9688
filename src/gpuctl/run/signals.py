"""SIGINT, SIGTERM and SIGHUP set a flag that every wait watches; the second one raises KeyboardInterrupt at once.

SIGHUP is how a run learns that its terminal is gone: a lost connection must not kill it among half-made VMs.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from types import FrameType


@dataclass
class Stop:
    """``flag`` is set by the first signal, whose name is kept."""

    flag: Flag = field(default_factory=Flag)
    signal_name: str = ""


@contextmanager
def handled(stop: Stop, say: Callable[[str], None]) -> Iterator[None]:
    """Install the handlers for the block. ``say`` is called at once, in a thread, with what happens next.

    A handler runs between two instructions of the main thread, which may hold the very lock that setting the flag or
    saying something needs. So it only puts the signal into a queue (SimpleQueue.put is reentrant), and a thread acts.
    """
    arrived: SimpleQueue[str] = SimpleQueue()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.signal_name:
            if number == signal.SIGHUP:
                return  # a shell that ends passes on its own, and the kernel sends another: nobody asked twice
            raise KeyboardInterrupt
        stop.signal_name = signal.Signals(number).name
        arrived.put(stop.signal_name)

    def act() -> None:
        if name := arrived.get():
            stop.flag.set()
            say(
                f"{name}: finishing what is under way and stopping; again to abandon it "
                "(what is half made is repaired by the next run)"
            )

    actor = Thread(target=act, daemon=True)
    actor.start()
    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which is what nohup asks for
        wanted.append(signal.SIGHUP)
    previous = {number: signal.signal(number, on_signal) for number in wanted}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        arrived.put("")
        actor.join(5)
