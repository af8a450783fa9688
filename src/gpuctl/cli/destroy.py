"""gpuctl destroy: takes it all away and proves it."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Output, Patience, Site, Spec, is_json


def command(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    confirm: Annotated[
        str | None,
        typer.Option(
            "--confirm", metavar="NAME", help="The cluster's name, instead of typing it.", envvar="GPUCTL_CONFIRM"
        ),
    ] = None,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Remove every VM, disk, mapping and image of the cluster, and prove that nothing is left."""
    from gpuctl import app
    from gpuctl.cli.consent import confirm_name
    from gpuctl.phases import teardown

    options = app.Options(spec, site, is_json(output), command="gpuctl destroy", patience=patience)
    with app.session(options, mutates=True) as ctx:
        planned = teardown.plan(ctx)
        ctx.say("run.started", teardown.describe(planned, ctx.spec))
        if not planned.empty:
            confirm_name(ctx.spec.name, confirm, options)
        proof = teardown.apply(ctx, planned)
        ctx.say("run.finished", proof)
