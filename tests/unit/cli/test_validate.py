"""What validate says to machines: SARIF for code scanning, GitHub's annotations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from gpuctl.spec import rules

CASES = Path(__file__).parents[1] / "spec/cases"
EXAMPLE = Path(__file__).parents[3] / "examples/homelab.yaml"


def validate(spec: Path, output: str, cwd: Path = CASES) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpuctl", "validate", str(spec), "-o", output]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, env={**os.environ})


@pytest.mark.parametrize(
    "case",
    ["unknown-key", "broken-yaml", "duplicate-key", "yaml11-traps", "vip-is-a-node", "empty", "root-only-settings"],
)
def test_sarif_says_what_text_says_at_the_same_place(case: str) -> None:
    text, done = validate(Path(f"{case}.yaml"), "text"), validate(Path(f"{case}.yaml"), "sarif")
    assert (done.returncode, done.stderr) == (text.returncode, "")
    # the model is made from the official schema and forbids what that does not know
    Sarif.model_validate_json(done.stdout)
    run = json.loads(done.stdout)["runs"][0]
    lines = []
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        at = f"{place['artifactLocation']['uri']}:{place['region']['startLine']}:{place['region']['startColumn']}"
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        words = result["message"]["text"]
        lines.append(f"{at}: {result['level']}: {words} [{result['ruleId']}]")
    assert lines == text.stdout.splitlines()[:-1]


def test_sarif_knows_every_rule_even_when_none_is_broken() -> None:
    driver = json.loads(validate(EXAMPLE, "sarif").stdout)["runs"][0]["tool"]["driver"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert {rule.id for rule in rules.ALL} < set(ids)
    assert len(ids) == len(set(ids))
    assert all(rule["fullDescription"]["text"] for rule in driver["rules"])


def test_sarif_names_a_file_as_an_address(tmp_path: Path) -> None:
    spec = tmp_path / "my cluster.yaml"
    spec.write_text("a: b\n", encoding="utf-8")
    for given, address in ((Path(spec.name), "my%20cluster.yaml"), (spec, spec.as_uri())):
        run = json.loads(validate(given, "sarif", tmp_path).stdout)["runs"][0]
        assert {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]} == {address}


def test_github_annotations_are_escaped_as_github_documents(tmp_path: Path) -> None:
    spec = tmp_path / "a,b:c%.yaml"
    spec.write_text("version: 1\n'new\\nline: 100%': x\n\"new\\nline: 100%\": x\n", encoding="utf-8")
    lines = [line for line in validate(Path(spec.name), "github", tmp_path).stdout.splitlines() if "100" in line]
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("::error file=a%2Cb%3Ac%25.yaml,line=")
        assert ",title=SPEC-04::" in line
        assert "100%25" in line
    assert any("new%0Aline: 100%25" in line for line in lines)


def test_github_annotations_of_a_valid_spec_are_its_notes_only() -> None:
    done = validate(Path("hub-valid.yaml"), "github")
    assert done.returncode == 0
    levels = [line.split(" ")[0] for line in done.stdout.splitlines()[:-1]]
    assert set(levels) <= {"::notice", "::warning"}
