"""When something happens again and again, as cron writes it.

K3s reads five fields by robfig/cron's ParseStandard. Written here is what all crons read alike: neither 7 for Sunday
nor L, #, ? or @daily, and never two fields for days of which one is like */2, where crons disagree.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

_NUMBERS = "[0-9*/,-]+"
_NAMED = r"(\*|[0-9]+|[A-Za-z]{3})(-([0-9]+|[A-Za-z]{3}))?(/[0-9]+)?"
_SUNDAY_IS_0 = r"(\*|[0-6]|[A-Za-z]{3})(-([0-6]|[A-Za-z]{3}))?(/[0-9]+)?"
_FIELDS = (
    ("minute", _NUMBERS),
    ("hour", _NUMBERS),
    ("day of the month", _NUMBERS),
    ("month", f"{_NAMED}(,{_NAMED})*"),
    ("day of the week", f"{_SUNDAY_IS_0}(,{_SUNDAY_IS_0})*"),
)
# between two minutes of a year: no moment of a schedule
_SINCE, _DAYS = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC), 400


def checked(value: object) -> str:
    """The schedule as it is written. ValueError says in a few words what is wrong with it."""
    if not isinstance(value, str) or len(fields := value.split()) != len(_FIELDS):
        raise ValueError("five fields, with blanks between them")
    for (name, pattern), field in zip(_FIELDS, fields, strict=True):
        if not re.fullmatch(pattern, field):
            raise ValueError(f"{name}: {field[:30]!r}")
    days = (fields[2], fields[4])
    if "*" not in days and any(field.startswith("*") for field in days):
        raise ValueError("of the day of the month and the day of the week one is to be *")
    try:
        CronSim(value, _SINCE)
    except CronSimError as error:
        raise ValueError(str(error).lower()) from None
    return value


def longest_pause(schedule: str) -> timedelta:
    """The longest time between two of its moments, of those with a midnight between them."""
    midnights = (_SINCE + timedelta(days=day) for day in range(_DAYS))
    return max(next(CronSim(schedule, at)) - next(CronSim(schedule, at, reverse=True)) for at in midnights)
