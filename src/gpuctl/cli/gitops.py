"""gpuctl gitops: the bundles that Fleet reads from the operator's repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Out, Output, Patience, Site, Spec, Yes, is_json
from gpuctl.cli.render import write

if TYPE_CHECKING:
    from gpuctl.app import Options
    from gpuctl.context import Context
    from gpuctl.phases.steps import Step

app = typer.Typer(help="The bundles that Fleet reads from your Git repository.", no_args_is_help=True)


@app.command("render")
def render(spec: Spec = DEFAULT_SPEC, site: Site = None, out: Out = Path("rendered"), output: Output = "text") -> None:
    """Write the bundles into a folder, as they would lie in the repository. No secret is in them."""
    from gpuctl import app as application
    from gpuctl.phases.manage import bundles

    with application.session(application.Options(spec, site, command="gpuctl gitops render"), mutates=False) as ctx:
        files = {path: data for bundle in bundles.wanted(ctx).values() for path, data in bundle.items()}
    write(files, out, output)


@app.command("push")
def push(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Show how the repository differs from the spec, and commit the spec's version: one commit, never by force."""
    from gpuctl import app as application
    from gpuctl.phases.manage import gitops

    command = "gpuctl gitops push"
    options = application.Options(spec, site, is_json(output), yes, command=command, patience=patience)
    with application.session(options, mutates=True) as ctx:
        _carry_out(ctx, options, gitops.push(ctx), "the repository holds what the spec says")


@app.command("adopt")
def adopt(
    bundle: Annotated[str, typer.Argument(help="The bundle whose release changes its owner.")],
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Move a release between gpuctl and Fleet without stopping it: to Fleet when the spec lists its bundle, or back."""
    from gpuctl import app as application
    from gpuctl.phases.manage import adopt

    command = f"gpuctl gitops adopt {bundle}"
    options = application.Options(spec, site, is_json(output), yes, command=command, patience=patience)
    with application.session(options, mutates=True) as ctx:
        _carry_out(ctx, options, adopt.plan(ctx, bundle), "its owner is the right one already")


def _carry_out(ctx: Context, options: Options, steps: list[Step], nothing: str) -> None:
    from gpuctl.cli.consent import Agreement
    from gpuctl.phases.base import Plan
    from gpuctl.phases.steps import carry_out
    from gpuctl.report import plan as report

    if not steps:
        ctx.say("run.finished", f"Nothing to do: {nothing}.", changes=0)
        return
    plan = Plan("gitops", tuple(step.change for step in steps))
    if options.json:
        ctx.say("phase.planned", report.summary([plan]), phase=plan.phase, plan=report.as_json([plan])[0])
    else:
        print("".join(change.after for change in plan.changes), end="")
    Agreement(options)([plan], False)
    carry_out(ctx, steps)
    ctx.say("run.finished", f"{options.command} done: {len(steps)} changes", changes=len(steps))
