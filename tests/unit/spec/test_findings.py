"""Every case is a spec and what `gpuctl validate` prints for it, word for word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpuctl import cli

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda case: case.stem)
def test_findings(case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: with one of its own for each case Python's start would be most of the work."""
    monkeypatch.chdir(CASES)
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("GPUCTL_OUTPUT", "text")
    monkeypatch.setattr(sys, "argv", ["gpuctl", "validate", case.name])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    expected = case.with_suffix(".txt").read_text(encoding="utf-8")
    assert said.out == expected
    assert said.err == ""
    assert (ended.value.code or 0) == (2 if ": error: " in expected else 0)


def test_a_finding_is_machine_readable() -> None:
    import json

    done = subprocess.run(
        [sys.executable, "-m", "gpuctl", "validate", "unknown-key.yaml", "-o", "json"],
        cwd=CASES, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert (answer["errors"], done.returncode) == (1, 2)
    finding = answer["findings"][0]
    assert (finding["line"], finding["column"], finding["rule"]) == (10, 5, "SPEC-04")


def test_every_rule_says_where_its_reason_is_written_and_has_a_case() -> None:
    from gpuctl.spec import rules

    found = "".join(case.read_text(encoding="utf-8") for case in CASES.glob("*.txt"))
    assert [rule.id for rule in rules.ALL if not rule.source] == []
    assert [rule.id for rule in rules.ALL if f"[{rule.id}]" not in found] == []


def test_the_ids_of_rules_are_unique() -> None:
    from gpuctl.spec import rules

    assert len({rule.id for rule in rules.ALL}) == len(rules.ALL)
