"""gpuctl gitops: the bundles that Fleet reads from the operator's repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Site, Spec, Yes

if TYPE_CHECKING:
    from gpuctl.app import Options
    from gpuctl.context import Context
    from gpuctl.phases.steps import Step

app = typer.Typer(help="The bundles that Fleet reads from your Git repository.", no_args_is_help=True)


@app.command("render")
def render(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path("rendered"),
) -> None:
    """Write the bundles into a folder, as they would lie in the repository. No secret is in them."""
    from gpuctl import app as application
    from gpuctl.phases.manage import bundles

    with application.session(application.Options(spec, site, command="gpuctl gitops render"), mutates=False) as ctx:
        files = {path: data for bundle in bundles.wanted(ctx).values() for path, data in bundle.items()}
        for path, data in files.items():
            application.write_report(out / path, data)
    print(f"{len(files)} files in {out}")


@app.command("push")
def push(spec: Spec = DEFAULT_SPEC, site: Site = None, yes: Yes = False) -> None:
    """Show how the repository differs from the spec, and commit the spec's version: one commit, never by force."""
    from gpuctl import app as application
    from gpuctl.phases.manage import gitops

    options = application.Options(spec, site, yes=yes, command="gpuctl gitops push")
    with application.session(options, mutates=True) as ctx:
        _carry_out(ctx, options, gitops.push(ctx), "the repository holds what the spec says")


@app.command("adopt")
def adopt(
    bundle: Annotated[str, typer.Argument(help="The bundle whose release changes its owner.")],
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
) -> None:
    """Move a release between gpuctl and Fleet without stopping it: to Fleet when the spec lists its bundle, or back."""
    from gpuctl import app as application
    from gpuctl.phases.manage import adopt

    options = application.Options(spec, site, yes=yes, command=f"gpuctl gitops adopt {bundle}")
    with application.session(options, mutates=True) as ctx:
        _carry_out(ctx, options, adopt.plan(ctx, bundle), "its owner is the right one already")


def _carry_out(ctx: Context, options: Options, steps: list[Step], nothing: str) -> None:
    from gpuctl.cli.consent import Agreement
    from gpuctl.phases.base import Plan
    from gpuctl.phases.steps import carry_out

    if not steps:
        print(f"Nothing to do: {nothing}.")
        return
    for step in steps:
        print(step.change.after, end="")
    Agreement(options)([Plan("gitops", tuple(step.change for step in steps))], False)
    carry_out(ctx, steps)
