"""Observers of events, and those of them that nobody reads any more."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest

from gpuctl.report.events import LogFile, PlainLines, Terminal, fan_out
from gpuctl.run.events import Event
from gpuctl.run.redact import Redactor


@pytest.mark.parametrize("kind", [PlainLines, Terminal])
def test_a_run_goes_on_when_its_reader_is_gone_and_the_log_has_it_all(kind: type, tmp_path: Path) -> None:
    reading, writing = pty.openpty() if kind is Terminal else os.pipe()
    stream = os.fdopen(writing, "w")
    log = LogFile(tmp_path / "log")
    observer = kind(stream)
    emit = fan_out([observer, log], Redactor())
    emit(Event("phase.started", "one", phase="bootstrap"))
    os.close(reading)
    emit(Event("target", "two"))
    emit(Event("target", "three"))
    log.close()
    said = (tmp_path / "log").read_text()
    assert [word for word in ("one", "two", "three") if word in said] == ["one", "two", "three"]
    assert said.count("the output ends here: ") == 1


@pytest.mark.filterwarnings("error")
def test_the_heartbeat_ends_with_its_reader() -> None:
    reading, writing = os.pipe()
    with suppress(OSError), os.fdopen(writing, "w") as stream:
        lines = PlainLines(stream, heartbeat=0.1)
        os.close(reading)
        lines._thread.join(20)
        assert not lines._thread.is_alive()


def test_an_error_that_nobody_reads_ends_with_its_code() -> None:
    script = dedent("""
        import os, sys, time
        from gpuctl import cli
        from gpuctl.run.errors import Exit, GpuctlError

        def fails():
            print("something")
            sys.stdin.read()
            raise GpuctlError("no", exit_code=Exit.LOCKED)

        cli.app = fails
        cli.main()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait(30) == 5
