"""Colour on a terminal, unless NO_COLOR or TERM=dumb say otherwise; elsewhere only with FORCE_COLOR."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLE = """
from pathlib import Path
from gpuctl import app
from tests.unit.report.test_reports import FAIL, PASS, report
app.show_report(report(PASS, FAIL), app.Options(Path("x")))
"""
EVENTS = """
import sys
from gpuctl.report.events import for_people
from gpuctl.run.events import Event
observer = for_people(sys.stdout)
for kind in ("phase.started", "progress", "warning", "phase.finished", "run.finished"):
    observer.see(Event(kind, "words", "provision"))
observer.close()
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]m")


def said(code: str, *, terminal: bool, **wanted: str) -> str:
    """What the code prints, on a terminal or into a pipe."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM")}
    environment = {**kept, "TERM": "xterm-256color", "COLUMNS": "140", **wanted}
    command = [sys.executable, "-c", code]
    if not terminal:
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60).stdout
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        data = b""
        with suppress(OSError):  # Linux ends a terminal with an error
            while part := os.read(ours, 65536):
                data += part
        os.close(ours)
        assert process.wait(60) == 0
    return data.decode()


@pytest.mark.parametrize("code", [TABLE, EVENTS], ids=["table", "events"])
def test_a_terminal_gets_colour_unless_it_is_not_wanted(code: str) -> None:
    assert COLOUR.search(said(code, terminal=True))
    assert not COLOUR.search(said(code, terminal=True, NO_COLOR="1"))
    assert "\x1b" not in said(code, terminal=True, TERM="dumb")


@pytest.mark.parametrize("code", [TABLE, EVENTS], ids=["table", "events"])
def test_a_pipe_gets_none(code: str) -> None:
    text = said(code, terminal=False)
    assert text
    assert "\x1b" not in text


def test_a_pipe_gets_a_coloured_table_when_that_is_forced() -> None:
    assert COLOUR.search(said(TABLE, terminal=False, FORCE_COLOR="1"))


def test_validate_prints_no_colour_at_all() -> None:
    code = "import sys; sys.argv = ['gpuctl', 'validate', 'examples/homelab.yaml']; from gpuctl.cli import main; main()"
    text = said(code, terminal=True)
    assert "1 warning" in text
    assert "\x1b" not in text
