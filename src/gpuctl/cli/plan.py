"""gpuctl plan: what apply would do, as far as it can be known; changes nothing."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Output, Remove, Replace, Site, Spec, is_json, print_document
from gpuctl.run.errors import Exit


def _phases(incomplete: str) -> list[str]:
    from gpuctl.phases import PHASES

    return [phase.name for phase in PHASES if phase.name.startswith(incomplete)]


def command(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    phase: Annotated[
        list[str] | None,
        typer.Option(
            "--phase",
            help="Plan this phase alone, which is quicker. Repeatable.",
            envvar="GPUCTL_PHASE",
            autocompletion=_phases,
            metavar="PHASE",
        ),
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit 3 when changes are pending.", envvar="GPUCTL_DETAILED_EXITCODE"),
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show the differences of each change.", envvar="GPUCTL_DIFF")
    ] = False,
    replace: Replace = None,
    remove: Remove = None,
    output: Output = "text",
) -> None:
    """Show what apply would change. Observes the live cluster, changes nothing."""
    from gpuctl import app
    from gpuctl.context import Consent
    from gpuctl.report import plan as report

    as_json = is_json(output)
    phases = app.chosen(phase or ())
    consent = Consent(frozenset(replace or ()), frozenset(remove or ()))
    options = app.Options(spec, site, json=as_json, consent=consent, command="gpuctl plan")
    started = time.monotonic()
    with app.session(options, mutates=False) as ctx:
        if not as_json:
            print(f"{app.where(ctx.spec)}\n")
        plans = app.plan(ctx, phases)
    if as_json:
        print_document(report.document(ctx.spec.name, plans))
    else:
        print("\n".join(report.lines(plans, diffs=diff)))
        seconds = time.monotonic() - started
        print(f"\n{report.summary(plans)}; observed in {seconds:.1f} s. Nothing has been changed.", end=" ")
        word = phases[0].name if len(phases) == 1 else "apply"
        print(f"Apply: gpuctl {word}{options.rest}" if any(not made.empty for made in plans) else "")
    if detailed_exitcode and any(not made.empty for made in plans):
        raise typer.Exit(int(Exit.CHANGES))
