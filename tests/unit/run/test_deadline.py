from __future__ import annotations

from threading import Event

import pytest

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, GpuctlError


def test_a_part_never_outlives_the_whole() -> None:
    whole = Deadline.after(0.2, "whole")
    assert whole.within(60, "part").left <= 0.2


def test_a_condition_is_looked_at_once_more_when_time_is_up() -> None:
    assert Deadline.after(0, "now").until(lambda: True)
    assert not Deadline.after(0.05, "soon").until(lambda: False, every=0.01)


def test_an_interrupt_ends_the_wait() -> None:
    stop = Event()
    stop.set()
    looks: list[int] = []
    with pytest.raises(GpuctlError, match="long: interrupted"):
        Deadline.after(60, "long", stop).until(lambda: looks.append(1) is not None)
    assert looks == [1]


def test_an_expired_deadline_names_the_wait() -> None:
    with pytest.raises(DeadlineExceeded, match="waiting for cp1: not done within 0 s"):
        Deadline.after(0, "waiting for cp1").check()
