"""gpuctl diff: what differs between two specs, and what each difference would do to a living cluster; offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuctl.cli.options import Output, Site, is_json, print_document
from gpuctl.run.errors import Exit


def command(
    old: Annotated[Path, typer.Argument(help="The spec as it was.")],
    new: Annotated[Path, typer.Argument(help="The spec as it shall be.")],
    site: Site = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 3 when they differ.", envvar="GPUCTL_DETAILED_EXITCODE")
    ] = False,
    output: Output = "text",
) -> None:
    """Compare two specs offline: every changed field, and what changing it does on a living cluster."""
    from gpuctl import app
    from gpuctl.report import diff as report
    from gpuctl.spec.diff import diff
    from gpuctl.spec.findings import count
    from gpuctl.spec.load import load

    as_json = is_json(output)
    loaded = [load(path, site) for path in (old, new)]
    findings = [finding for one in loaded for finding in one.findings]
    if count(findings, "error"):
        raise app.SpecInvalid(findings)
    found = diff(*loaded)
    if as_json:
        print_document(report.as_json(found))
    else:
        print("\n".join(report.lines(found)))
    if detailed_exitcode and found.differences:
        raise typer.Exit(int(Exit.CHANGES))
