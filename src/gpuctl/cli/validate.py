"""gpuctl validate: every problem of the spec at once, offline."""

from __future__ import annotations

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Output, Site, Spec, is_json
from gpuctl.run.errors import Exit


def command(spec: Spec = DEFAULT_SPEC, site: Site = None, output: Output = "text") -> None:
    """Check the spec offline; all findings at once."""
    from gpuctl.spec.load import load

    as_json = is_json(output)
    loaded = load(spec, site)
    errors = sum(finding.severity == "error" for finding in loaded.findings)
    warnings = sum(finding.severity == "warning" for finding in loaded.findings)
    if as_json:
        import json

        findings = [finding.to_json() for finding in loaded.findings]
        print(json.dumps({"schemaVersion": 1, "errors": errors, "warnings": warnings, "findings": findings}, indent=2))
    else:
        for finding in loaded.findings:
            print(finding)
        if loaded.findings:
            print(f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}")
        elif loaded.resolved:
            print(f"{spec}: valid, {len(loaded.resolved.nodes)} nodes. Next: gpuctl plan")
    if errors:
        raise typer.Exit(int(Exit.USAGE))
