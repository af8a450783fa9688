"""Schedules as cron writes them and K3s reads them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gpuctl.spec.schedule import checked, longest_pause


@pytest.mark.parametrize(
    ("schedule", "pause"),
    [
        ("0 */6 * * *", timedelta(hours=6)),
        ("30 3 * * *", timedelta(days=1)),
        ("0 0 * * MON-FRI", timedelta(days=3)),
        ("*/5 9-17 * * 1-5", timedelta(days=2, hours=15, minutes=5)),
        ("0 0 * * SUN", timedelta(days=7)),
        ("0 0 1 * *", timedelta(days=31)),
        ("* * 1-20 * *", timedelta(days=11, minutes=1)),
    ],
)
def test_the_longest_pause_between_two_moments(schedule: str, pause: timedelta) -> None:
    assert longest_pause(checked(schedule)) == pause


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("every hour", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "bad minute"),
        ("0 0 5-2 * *", "bad day-of-month"),
        ("0 3 * * 7", "day of the week: '7'"),
        ("0 0 L * *", "day of the month: 'L'"),
        ("0 3 * JANU *", "month: 'JANU'"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 */2 * 1", "one is to be"),
        (6, "five fields"),
    ],
)
def test_what_k3s_would_not_read_is_refused(schedule: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked(schedule)
