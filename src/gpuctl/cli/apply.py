"""gpuctl apply: from the spec to a verified cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Junit, Output, Patience, Remove, Replace, Site, Spec, Yes, is_json

# a cluster that was just made is still electing leaders and importing images
REST_SECONDS = 120.0


def command(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    replace: Replace = None,
    remove: Remove = None,
    junit: Junit = None,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Make the live cluster what the spec says, then verify it."""
    run((), spec, site, yes, replace, remove, output, junit, patience, checks=True)


def run(
    phases: Sequence[str],
    spec: Spec,
    site: Site,
    yes: bool,
    replace: Sequence[str] | None,
    remove: Sequence[str] | None,
    output: str,
    junit: Junit,
    patience: float,
    *,
    checks: bool,
) -> None:
    """Apply these phases (all when none is named); shared with the commands of single phases."""
    from gpuctl import app
    from gpuctl.cli.consent import Agreement
    from gpuctl.cli.verify import finish
    from gpuctl.context import Consent
    from gpuctl.report.events import clock

    command_name = f"gpuctl {phases[0] if phases else 'apply'}"
    consent = Consent(frozenset(replace or ()), frozenset(remove or ()))
    options = app.Options(spec, site, is_json(output), yes, consent, command_name, patience=patience)
    started = time.monotonic()
    report = None
    with app.session(options, mutates=True) as ctx:
        changes = app.apply(ctx, app.chosen(phases), Agreement(options))
        if checks:
            report = app.verify(ctx, settle=REST_SECONDS if changes else 0.0)
        took = clock(time.monotonic() - started)
        ready = report is None or report.exit_code == 0
        state = "is up" if ready and checks else "done" if ready else "is NOT proven"
        ctx.say(
            "run.finished",
            f"{ctx.spec.name} {state} in {took}, {changes} changes. kubectl: gpuctl kubeconfig{options.rest}",
            changes=changes,
        )
    if report is not None:
        code = finish(ctx, report, options, junit)
        if code:
            raise typer.Exit(code)
