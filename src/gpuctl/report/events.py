"""Observers of events: plain lines, the console, NDJSON and the log file. All of them see redacted text only."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from typing import IO, TYPE_CHECKING, Protocol

from gpuctl.run.events import Event
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import on_disk

if TYPE_CHECKING:
    from rich.status import Status

SCHEMA_VERSION = 1
HEARTBEAT_SECONDS = 15.0


class Observer(Protocol):
    """Sees every event of a run, in order, possibly from several threads (one at a time)."""

    def see(self, event: Event) -> None: ...

    def close(self) -> None: ...


def clock(seconds: float) -> str:
    """``1:32`` or ``1:02:03``."""
    return str(timedelta(seconds=int(seconds))).removeprefix("0:").lstrip("0").rjust(4, "0")


def line_of(event: Event) -> str | None:
    """The line people see for an event; None for what only the log keeps."""
    match event.kind:
        case "phase.started":
            return f"==> {event.phase:<12} {event.message}"
        case "target":
            return f"    {event.target}  {event.message}"
        case "progress" | "phase.planned":
            return f"    {event.message}"
        case "phase.finished":
            return f"    {event.message}"
        case "warning":
            return f"warning: {event.message}"
        case "run.started" | "run.finished":
            return event.message
        case "log" | "check" | "error":
            return None


def for_people(stream: IO[str]) -> Observer:
    """Live lines on a terminal that can be written over, plain ones elsewhere."""
    lively = stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
    return Terminal(stream) if lively else PlainLines(stream)


class PlainLines:
    """Lines for a pipe or CI, with a heartbeat when nothing was said for 15 s."""

    def __init__(self, stream: IO[str], heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._stream = stream
        self._last_line = "starting"
        self._last_at = self._started = time.monotonic()
        self._lock = Lock()
        self._closed = Flag()
        self._thread = Thread(target=self._beat, args=(heartbeat,), daemon=True)
        self._thread.start()

    def see(self, event: Event) -> None:
        line = line_of(event)
        if line is not None:
            self._last_line = line.strip()
            # counts are for the heartbeat: each target has said its own line already
            if event.kind != "progress":
                self._write(line)

    def _write(self, line: str) -> None:
        with self._lock:
            self._last_at = time.monotonic()
            print(line, file=self._stream, flush=True)

    def _beat(self, every: float) -> None:
        with suppress(OSError):  # whoever read it is gone
            while not self._closed.wait(1.0):
                if time.monotonic() - self._last_at >= every:
                    self._write(f"    ... {clock(time.monotonic() - self._started)} still: {self._last_line}")

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=2)


class Terminal:
    """Lines for a person, with the current step and its age in a live last line."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._status: Status | None = None

    def see(self, event: Event) -> None:
        line = line_of(event)
        if line is None:
            return
        if event.kind == "progress":
            self._spin(event.message)
            return
        style = {"phase.started": "bold", "warning": "yellow", "run.finished": "bold green"}.get(event.kind)
        self._console.print(line, style=style, markup=False)
        if event.kind == "phase.started":
            self._spin(event.message)
        elif event.kind in ("phase.finished", "run.finished"):
            self._rest()

    def _spin(self, text: str) -> None:
        from rich.text import Text

        if self._status is None:
            self._status = self._console.status(Text(text))
            self._status.start()
        else:
            self._status.update(Text(text))

    def _rest(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def close(self) -> None:
        self._rest()


class Warnings:
    """Only warnings: for a run whose results are lines of their own."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def see(self, event: Event) -> None:
        if event.kind == "warning":
            print(line_of(event), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to close: the stream is not ours."""


class Ndjson:
    """One JSON object a line; readers ignore fields they do not know."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def see(self, event: Event) -> None:
        if event.kind != "log":
            print(json.dumps(record(event)), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to close: the stream is not ours."""


class LogFile:
    """Everything, with times; 0600. A full disk must not end a run: it is reported once and logging stops."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with on_disk("start the run's log", path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._stream: IO[str] | None = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")

    def see(self, event: Event) -> None:
        if self._stream is None:
            return
        target = f" {event.target}" if event.target else ""
        data = f" {json.dumps(dict(event.data), default=str)}" if event.data else ""
        try:
            stamp = f"{event.at:%Y-%m-%dT%H:%M:%S.%fZ}"
            self._stream.write(f"{stamp} {event.kind} {event.phase or '-'}{target} {event.message}{data}\n")
            self._stream.flush()
        except OSError as error:
            self._stream = None
            print(f"warning: the log {self.path} ends here: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def record(event: Event) -> dict[str, object]:
    """The event as NDJSON shows it."""
    return {
        "schemaVersion": SCHEMA_VERSION,
        "time": event.at.isoformat().replace("+00:00", "Z"),
        "kind": event.kind,
        "phase": event.phase,
        "target": event.target,
        "message": event.message,
        "data": dict(event.data),
    }


def fan_out(observers: Sequence[Observer], redactor: Redactor) -> Callable[[Event], None]:
    """An ``emit`` that redacts once and shows to all, one event at a time.

    An observer that cannot write (its terminal or reader is gone, its disk is full) sees no more: that must not end a
    run in the middle of something.
    """
    lock, watching = Lock(), list(observers)

    def cleaned(value: object) -> object:
        if isinstance(value, str):
            return redactor.clean(value)
        if isinstance(value, dict):
            return {redactor.clean(str(key)): cleaned(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [cleaned(item) for item in value]
        return value

    def emit(event: Event) -> None:
        data = {key: cleaned(item) for key, item in event.data.items()}
        clean = Event(
            event.kind, redactor.clean(event.message), event.phase, redactor.clean(event.target), data, event.at
        )
        said = [clean]
        with lock:
            for one in said:
                for observer in tuple(watching):
                    try:
                        observer.see(one)
                    except OSError as error:
                        watching.remove(observer)
                        said.append(Event("log", f"the output ends here: {error.strerror}"))

    return emit
