"""A finding: something wrong or noteworthy in a spec, where it is, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gpuctl.spec.resolved import SpecPath

# characters of a part: a value of any length may be quoted in it
SHOWN = 400
Severity = Literal["error", "warning", "note"]

# what the loader itself refuses, beside the rules: id -> (title, reason)
SHAPE = {
    "SPEC-01": ("The spec is one YAML mapping of plain values", "What cannot be read cannot be checked."),
    "SPEC-02": ("A key is given once", "YAML keeps the last one silently."),
    "SPEC-03": ("Values mean the same to every YAML reader", "no, 0123 and 12:30 are not text to YAML 1.1."),
    "SPEC-04": ("Every key is known", "A misspelt key would be ignored silently."),
    "SPEC-05": ("Every required key is there", "Nothing sensible can be guessed for it."),
    "SPEC-06": ("Every value has the type of its field", "Sizes and durations carry units, secrets are references."),
    "SPEC-07": ("No key is one that only root may set", "Proxmox refuses it to every API token."),
}


@dataclass(frozen=True, order=True)
class Finding:
    """``rule`` is the id of the rule (NET-01), or SPEC-nn for what the loader itself refuses."""

    at: SpecPath
    severity: Severity
    rule: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.at.file}:{self.at.line}:{self.at.column}"
        field = f" {_short(self.at.field)}:" if self.at.field else ""
        fix = f"; {_short(self.fix)}" if self.fix else ""
        line = f"{place}: {self.severity}:{field} {_short(self.message)}{fix} [{self.rule}]"
        # what is quoted from a spec must neither end the line nor steer the terminal
        return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)

    def to_json(self) -> dict[str, object]:
        """For ``-o json``."""
        return {
            "file": self.at.file,
            "line": self.at.line,
            "column": self.at.column,
            "field": self.at.field,
            "severity": self.severity,
            "rule": self.rule,
            "message": self.message,
            "fix": self.fix,
        }


def count(findings: Iterable[Finding], severity: Severity) -> int:
    """How many are of this severity."""
    return sum(finding.severity == severity for finding in findings)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}[...]{text[-SHOWN // 2 :]}"
