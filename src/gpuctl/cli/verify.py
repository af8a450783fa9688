"""gpuctl verify: is what the spec promised true now?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Junit, Only, Output, Site, Skip, Spec, is_json

if TYPE_CHECKING:
    from gpuctl.app import Options
    from gpuctl.context import Context
    from gpuctl.verify.run import Report


def command(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    only: Only = None,
    skip: Skip = None,
    junit: Junit = None,
    output: Output = "text",
) -> None:
    """Check the live cluster against the spec, with measured values."""
    from gpuctl import app

    options = app.Options(spec, site, is_json(output), command="gpuctl verify")
    with app.session(options, mutates=False) as ctx:
        report = app.verify(ctx, only or (), skip or ())
    code = finish(ctx, report, options, junit)
    if code:
        raise typer.Exit(code)


def finish(ctx: Context, report: Report, options: Options, junit: Path | None) -> int:
    """Show the report, keep it in the workspace, write JUnit when asked; the exit code."""
    from gpuctl import app
    from gpuctl.report import junit as junit_report
    from gpuctl.run.workspace import write_private

    app.show_report(report, options)
    write_private(ctx.workspace.reports / "verify.json", json.dumps(report.to_json(), indent=2) + "\n")
    if junit is not None:
        app.write_report(junit, junit_report.render(report))
    return int(report.exit_code)
