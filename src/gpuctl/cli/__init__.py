"""The command line: one file per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from gpuctl import __version__
from gpuctl.cli import (
    apply,
    destroy,
    diff,
    doctor,
    explain,
    fmt,
    gitops,
    init,
    kubeconfig,
    man,
    phase,
    plan,
    render,
    resolve,
    schema,
    status,
    validate,
    verify,
    version,
)
from gpuctl.run.errors import Exit, GpuctlError

app = typer.Typer(
    name="gpuctl",
    help="One cluster.yaml to a working GPU Kubernetes cluster on Proxmox VE, proven by measurement.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# the order of a first session
app.command("init")(init.command)
app.command("doctor")(doctor.command)
app.command("validate")(validate.command)
app.command("fmt")(fmt.command)
app.command("resolve")(resolve.command)
app.command("explain")(explain.command)
app.command("diff")(diff.command)
app.command("schema")(schema.command)
app.command("render")(render.command)
app.command("plan")(plan.command)
app.command("apply")(apply.command)
phase.add_to(app)
app.add_typer(gitops.app, name="gitops")
app.command("verify")(verify.command)
app.command("status")(status.command)
app.command("kubeconfig")(kubeconfig.command)
app.command("destroy")(destroy.command)
app.command("version")(version.command)
app.command("man", hidden=True)(man.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gpuctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", envvar="GPUCTL_DEBUG", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options of every command."""
    os.environ["GPUCTL_DEBUG"] = "1" if debug else ""


def _shown(error: GpuctlError) -> str:
    if os.environ.get("GPUCTL_OUTPUT") == "json":
        return json.dumps({"schemaVersion": 1, "error": error.to_json()})
    return "\n".join([*error.lines(), *(f"  {note}" for note in getattr(error, "__notes__", []))])


def main() -> None:
    """Run the command line; every error is rendered here and nowhere else."""
    try:
        app()
    except GpuctlError as error:
        if os.environ.get("GPUCTL_DEBUG"):
            raise
        print(_shown(error), file=sys.stderr)
        sys.exit(int(error.exit_code))
    except BrokenPipeError:
        # the reader of our output went away; nothing to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(Exit.FAILED))
    except Exception as error:  # the last resort, so that a bug is one line and not a wall
        if os.environ.get("GPUCTL_DEBUG"):
            raise
        bug = GpuctlError(
            f"internal error: {type(error).__name__}: {error}",
            cause="a bug in gpuctl",
            next="run again with: gpuctl --debug ... and report it",
        )
        print(_shown(bug), file=sys.stderr)
        sys.exit(int(Exit.FAILED))
