"""Signals that arrive at the worst moment."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", dedent(script), *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_signal_while_a_line_is_printed_is_said_after_it() -> None:
    done = python("""
        import os, signal
        from gpuctl.report.events import fan_out
        from gpuctl.run import signals
        from gpuctl.run.events import Event
        from gpuctl.run.redact import Redactor

        class Interrupted:
            def see(self, event):
                print(event.message)
                if event.kind == "log":
                    os.kill(os.getpid(), signal.SIGINT)  # the handler runs before the next line, under emit's lock

            def close(self): ...

        stop = signals.Stop()
        emit = fan_out([Interrupted()], Redactor())
        with signals.handled(stop, lambda text: emit(Event("warning", text))):
            emit(Event("log", "in the middle"))
            assert stop.flag.wait(5)
    """)
    assert done.stderr == ""
    assert done.stdout.startswith("in the middle\nSIGINT: finishing what is under way")


def test_a_signal_while_the_flag_is_looked_at_sets_it() -> None:
    done = python("""
        import os, signal
        from gpuctl.run import signals

        stop = signals.Stop()
        with signals.handled(stop, print):
            with stop.flag._cond:  # what Event.wait holds for a moment
                os.kill(os.getpid(), signal.SIGTERM)
            assert stop.flag.wait(5)
            assert stop.signal_name == "SIGTERM"
    """)
    assert done.stderr == ""
    assert done.stdout.startswith("SIGTERM: finishing")


def test_the_second_signal_abandons() -> None:
    done = python("""
        import os, signal, time
        from gpuctl.run import signals

        with signals.handled(signals.Stop(), print):
            os.kill(os.getpid(), signal.SIGINT)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except KeyboardInterrupt:
                print("abandoned")
    """)
    assert done.stderr == ""
    assert "abandoned" in done.stdout


def test_a_terminal_that_goes_away_stops_the_run_and_nohup_keeps_it() -> None:
    script = """
        import os, signal, sys
        from gpuctl.run import signals

        if sys.argv[1:]:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop = signals.Stop()
        with signals.handled(stop, lambda text: None):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)  # a shell's and the kernel's
            print(stop.flag.wait(1), stop.signal_name)
    """
    assert python(script).stdout == "True SIGHUP\n"
    assert python(script, "ignored").stdout == "False \n"
