"""gpuctl verify: is what the spec promised true now?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gpuctl.cli.options import (
    DEFAULT_SPEC,
    Every,
    GpuStress,
    Html,
    Junit,
    Only,
    Output,
    Quick,
    Site,
    Skip,
    Spec,
    Watch,
    is_json,
)

if TYPE_CHECKING:
    from gpuctl.app import Options
    from gpuctl.context import Context
    from gpuctl.verify.run import Choice, Report


def command(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    only: Only = None,
    skip: Skip = None,
    quick: Quick = False,
    gpu_stress: GpuStress = False,
    watch: Watch = False,
    every: Every = 60,
    junit: Junit = None,
    html: Html = None,
    output: Output = "text",
) -> None:
    """Check the live cluster against the spec, with measured values."""
    from gpuctl import app
    from gpuctl.verify.run import Choice

    options = app.Options(spec, site, is_json(output), command="gpuctl verify", quiet=watch)
    choice = Choice(tuple(only or ()), tuple(skip or ()), quick, gpu_stress)
    if watch:
        code = _watch(options, choice, every, junit, html)
    else:
        with app.session(options, mutates=False) as ctx:
            report = app.verify(ctx, choice)
        code = finish(ctx, report, options, junit, html)
    if code:
        raise typer.Exit(code)


def finish(ctx: Context, report: Report, options: Options, junit: Path | None, html: Path | None = None) -> int:
    """Show the report, keep it in the workspace, write the files that were asked for; the exit code."""
    from gpuctl import app

    app.show_report(report, options)
    page = keep(ctx, report, junit, html)
    if not options.json:
        print(f"report: {page}")
    return int(report.exit_code)


def keep(ctx: Context, report: Report, junit: Path | None, html: Path | None) -> Path:
    """Write the report into the workspace (JSON, HTML) and into the files that were asked for; the path of the HTML."""
    from gpuctl import app
    from gpuctl.report import html as html_report
    from gpuctl.report import junit as junit_report
    from gpuctl.run.workspace import write_private

    kept = ctx.workspace.reports / "verify.html"
    page = html_report.render(report)
    write_private(ctx.workspace.reports / "verify.json", json.dumps(report.to_json(), indent=2) + "\n")
    write_private(kept, page)
    if junit is not None:
        app.write_report(junit, junit_report.render(report))
    if html is not None:
        app.write_report(html, page)
    return html or kept


def _watch(options: Options, choice: Choice, every: int, junit: Path | None, html: Path | None) -> int:
    """Measure until stopped; what the last whole round found is the exit code, since being stopped is how it ends."""
    from gpuctl import app
    from gpuctl.report import changes
    from gpuctl.run.errors import Interrupted

    last: Report | None = None
    try:
        with app.session(options, mutates=False) as ctx:
            for report in app.watch(ctx, choice, every):
                for line in changes.records(last, report) if options.json else changes.lines(last, report):
                    print(line, flush=True)
                keep(ctx, report, junit, html)
                last = report
    except Interrupted:
        if last is None:
            raise
    return int(last.exit_code) if last else 0
