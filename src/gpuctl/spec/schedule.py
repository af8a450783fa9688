"""When something happens again and again, as cron writes it.

K3s reads five fields by robfig/cron's ParseStandard: of what other crons know it takes neither 7 for Sunday nor L or #.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import islice

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
# a Thursday; a schedule of every minute of Friday still shows its pause of six days in so many steps
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
_STEPS, _HORIZON = 10_000, timedelta(days=400)


def checked(value: object) -> str:
    """The schedule as it is written. ValueError says in a few words what is wrong with it."""
    if not isinstance(value, str) or len(fields := value.split()) != len(_FIELDS):
        raise ValueError("five fields, with blanks between them")
    for (name, pattern), field in zip(_FIELDS, fields, strict=True):
        if not re.fullmatch(pattern, field):
            raise ValueError(f"{name}: {field[:30]!r}")
    try:
        next(CronSim(value, _SINCE))
    except CronSimError as error:
        raise ValueError(str(error).lower()) from None
    except StopIteration:
        raise ValueError("it never comes") from None
    return value


def longest_pause(schedule: str) -> timedelta:
    """The longest time between two of its moments."""
    pause, last = timedelta(), _SINCE
    for moment in islice(CronSim(schedule, _SINCE), _STEPS):
        pause, last = max(pause, moment - last), moment
        if moment - _SINCE > _HORIZON:
            break
    return pause
