"""Findings for machines: plain JSON, SARIF 2.1.0 (code scanning) and GitHub's annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gpuctl import __version__
from gpuctl.spec.findings import Finding, count
from gpuctl.spec.units import counted

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def summary(findings: Sequence[Finding]) -> str:
    """``1 error, 2 warnings``."""
    return f"{counted(count(findings, 'error'), 'error')}, {counted(count(findings, 'warning'), 'warning')}"


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """For ``-o json``."""
    return {
        "errors": count(findings, "error"),
        "warnings": count(findings, "warning"),
        "findings": [finding.to_json() for finding in findings],
    }


def sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """One run with every rule gpuctl knows, broken or not. Columns count characters, from 1."""
    known = _rules()
    order = {rule["id"]: index for index, rule in enumerate(known)}
    driver = {"name": "gpuctl", "version": __version__, "rules": known}
    results = [{**_result(finding), "ruleIndex": order[finding.rule]} for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _rules() -> list[dict[str, Any]]:
    from gpuctl.spec.explain import described_rules

    return [
        {
            "id": rule.id,
            "name": rule.title,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.reason},
            "defaultConfiguration": {"level": rule.severity},
        }
        for rule in described_rules()
    ]


def _result(finding: Finding) -> dict[str, Any]:
    path = Path(finding.at.file)
    # code scanning wants addresses relative to the repository: what was named relatively stays so
    address = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    place: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": address},
            "region": {"startLine": finding.at.line, "startColumn": finding.at.column},
        }
    }
    if finding.at.field:
        place["logicalLocations"] = [{"fullyQualifiedName": finding.at.field}]
    return {
        "ruleId": finding.rule,
        "level": finding.severity,
        "message": {"text": _words(finding)},
        "locations": [place],
    }


def github(findings: Sequence[Finding]) -> list[str]:
    """Workflow commands, which GitHub Actions shows at the lines of the file."""
    return [
        f"::{COMMANDS[finding.severity]} file={_escaped(finding.at.file, property=True)},line={finding.at.line},"
        f"col={finding.at.column},title={_escaped(finding.rule, property=True)}::{_escaped(_words(finding))}"
        for finding in findings
    ]


def _words(finding: Finding) -> str:
    field = f"{finding.at.field}: " if finding.at.field else ""
    return f"{field}{finding.message}{'; ' + finding.fix if finding.fix else ''}"


def _escaped(text: str, *, property: bool = False) -> str:
    # https://docs.github.com/actions/reference/workflow-commands-for-github-actions: percent first
    pairs = [("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), *([(":", "%3A"), (",", "%2C")] if property else [])]
    for plain, code in pairs:
        text = text.replace(plain, code)
    return text
