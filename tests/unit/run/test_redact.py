from __future__ import annotations

import io
import json

from gpuctl.report import events as observers
from gpuctl.run.events import Event
from gpuctl.run.redact import Redactor


def test_a_known_secret_reaches_no_observer() -> None:
    redactor = Redactor()
    redactor.add("hunter2hunter2")
    redactor.add("first-line\nsecond-line")
    stream = io.StringIO()
    emit = observers.fan_out([observers.Ndjson(stream)], redactor)
    emit(Event("error", "token hunter2hunter2 refused", data={"deep": [{"second-line": "xfirst-linex"}]}))
    said = stream.getvalue()
    assert json.loads(said)["message"] == "token [redacted] refused"
    for secret in ("hunter2", "first-line", "second-line"):
        assert secret not in said


def test_a_secret_inside_another_disappears_with_it() -> None:
    redactor = Redactor()
    redactor.add("abcdef")
    redactor.add("abcdefghij")
    assert redactor.clean("abcdefghij abcdef") == "[redacted] [redacted]"
