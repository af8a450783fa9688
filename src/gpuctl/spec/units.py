"""Sizes and durations with units: ``16GiB``, ``2TB``, ``1h``, ``30m``."""

from __future__ import annotations

import re

SIZES = {
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
GIB = SIZES["GiB"]
DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def size(value: object) -> int:
    """Bytes; ValueError says how a size is written."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]i?B)", value) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str) and re.fullmatch(r"[0-9.]+\s*[KMGT]i?", value):
            raise ValueError(f"{value!r} is not a size with a unit; write it like {value}B")
        hint = f"{value}GiB" if isinstance(value, (int, float)) and not isinstance(value, bool) else "16GiB"
        raise ValueError(f"{value!r} is not a size with a unit; write it like {hint} ({', '.join(SIZES)})")
    return int(float(match[1]) * SIZES[match[2]])


def duration(value: object) -> int:
    """Seconds; ValueError says how a duration is written."""
    match = re.fullmatch(r"([0-9]{1,9})\s*([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration with a unit; write it like 30m, 1h (s, m, h, d)")
    return int(match[1]) * DURATIONS[match[2]]


def show_size(count: int) -> str:
    """The shortest exact way to write a size."""
    for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "KB"):
        if count and count % SIZES[unit] == 0:
            return f"{count // SIZES[unit]}{unit}"
    return f"{count / GIB:.1f}GiB"


def show_gib(count: int) -> str:
    """To the next GiB, for sums."""
    return f"{count / GIB:.0f}GiB"


def counted(number: int, what: str) -> str:
    """``1 card``, ``2 cards``."""
    return f"{number} {what}{'s' * (number != 1)}"


def show_duration(seconds: int) -> str:
    for unit in ("d", "h", "m"):
        if seconds and seconds % DURATIONS[unit] == 0:
            return f"{seconds // DURATIONS[unit]}{unit}"
    return f"{seconds}s"
