"""Events: everything a run has to say, said once; observers (console, plain lines, log file, NDJSON) show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Kind = Literal[
    "run.started",
    "phase.started",
    "phase.planned",
    "progress",  # message plus done/total of a phase's targets
    "target",  # something happened to one target: vm/cp1 created
    "warning",
    "log",  # detail for the log file only
    "phase.finished",
    "check",
    "run.finished",
    "error",
]


@dataclass(frozen=True)
class Event:
    """``data`` holds JSON values only. ``at`` is UTC."""

    kind: Kind
    message: str
    phase: str = ""
    target: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


Emit = Callable[[Event], None]
