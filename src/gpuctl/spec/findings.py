"""A finding: something wrong or noteworthy in a spec, where it is, and the way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpuctl.spec.resolved import SpecPath

Severity = Literal["error", "warning", "note"]


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
        field = f" {self.at.field}:" if self.at.field else ""
        return f"{place}: {self.severity}:{field} {self.message}{'; ' + self.fix if self.fix else ''} [{self.rule}]"

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
