"""gpuctl validate: every problem of the spec at once, offline."""

from __future__ import annotations

import json

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Findings, Site, Spec, print_document
from gpuctl.run.errors import Exit


def command(spec: Spec = DEFAULT_SPEC, site: Site = None, output: Findings = "text") -> None:
    """Check the spec offline; all findings at once."""
    from gpuctl.report import findings as report
    from gpuctl.spec.findings import count
    from gpuctl.spec.load import load

    loaded = load(spec, site)
    findings = loaded.findings
    if output == "json":
        print_document(report.as_json(findings))
    elif output == "sarif":
        print(json.dumps(report.sarif(findings), indent=2))
    else:
        for line in report.github(findings) if output == "github" else findings:
            print(line)
        if findings:
            unread = loaded.resolved is None and any(finding.rule in ("SPEC-05", "SPEC-06") for finding in findings)
            later = "; the rest is checked once these are right" if unread else ""
            print(f"{report.summary(findings)}{later}")
        elif loaded.resolved:
            print(f"{spec}: valid, {len(loaded.resolved.nodes)} nodes. Next: gpuctl plan")
    if count(findings, "error"):
        raise typer.Exit(int(Exit.USAGE))
