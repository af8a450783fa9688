from __future__ import annotations

import io
import json
from xml.etree import ElementTree

from rich.console import Console

from gpuctl.report import changes, junit, table
from gpuctl.run.errors import Exit
from gpuctl.verify.base import Check, Measurement, Result
from gpuctl.verify.run import Report


def result(id: str, measurement: Measurement) -> Result:
    return Result(Check(id, "infra", f"claim of {id}", (), lambda _spec, _facts: measurement), measurement)


PASS = result("INF-01", Measurement("pass", "7 of 7", "all"))
FAIL = result("INF-02", Measurement("fail", "1 [of] 2", "2", "wk-gpu1: 1 card <less>", next="gpuctl plan"))
UNKNOWN = [
    result(id, Measurement("unknown", "not measured", "", "no answer", cause="hosts a unreachable", next="look"))
    for id in ("INF-05", "INF-06")
]
SKIPPED = result("INF-07", Measurement("skipped", "not measured", reason="left out by --skip"))


def report(*results: Result) -> Report:
    return Report("homelab", "pve.example", ("GPUs",), "2026-01-01T00:00:00Z", 3.0, results)


def test_only_a_pass_is_a_success() -> None:
    assert report(PASS, SKIPPED).exit_code == Exit.OK
    assert report(PASS, *UNKNOWN).exit_code == Exit.VERIFY_INCOMPLETE
    assert report(PASS, FAIL, *UNKNOWN).exit_code == Exit.CHECK_FAILED


def test_failures_come_first_and_consequences_of_one_cause_are_folded() -> None:
    assert table.problems([PASS, *UNKNOWN, FAIL]) == [
        "fail INF-02: wk-gpu1: 1 card <less>",
        "  next    gpuctl plan",
        "unknown INF-05, INF-06: no answer",
        "  next    look",
        "",
    ]


def test_the_table_names_every_check_and_what_is_simulated() -> None:
    stream = io.StringIO()
    table.render(report(PASS, FAIL, SKIPPED), Console(file=stream, width=140))
    said = stream.getvalue()
    for text in ("INF-01", "1 [of] 2", "pass 1 . fail 1 . skipped 1 of 3 checks", "simulated here: GPUs"):
        assert text in said


def test_junit_counts_as_the_report_does() -> None:
    suite = ElementTree.fromstring(junit.render(report(PASS, FAIL, *UNKNOWN, SKIPPED)))
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "2", "skipped": "1"}
    assert suite.find(".//failure[@message='wk-gpu1: 1 card <less>']") is not None
    assert len(suite.findall("testcase")) == 5


def test_watching_says_what_changed_and_nothing_else() -> None:
    worse = report(FAIL, *UNKNOWN)
    assert changes.lines(None, report(PASS, *UNKNOWN, SKIPPED)) == [
        "00:00:00 homelab at pve.example: pass 1 . unknown 2 . skipped 1 of 4 checks",
        "00:00:00 INF-05 unknown: no answer",
        "00:00:00 INF-06 unknown: no answer",
    ]
    broken = result("INF-01", Measurement("fail", "6 of 7", "all", "cp1: gone"))
    assert changes.lines(report(PASS, *UNKNOWN), report(broken, *UNKNOWN)) == [
        "00:00:00 INF-01 fail (was pass): cp1: gone"
    ]
    assert changes.lines(report(broken), report(PASS)) == ["00:00:00 INF-01 pass (was fail): 7 of 7"]
    assert changes.lines(worse, worse) == []


def test_watching_for_machines_starts_with_every_check() -> None:
    first = [json.loads(line) for line in changes.records(None, report(PASS, SKIPPED))]
    assert [(one["id"], one["was"], one["outcome"]) for one in first] == [
        ("INF-01", "", "pass"),
        ("INF-07", "", "skipped"),
    ]
