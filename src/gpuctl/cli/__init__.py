"""The command line: one file per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

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

# of an output: its terminal is gone, or the disk below its file is full
UNWRITABLE = (errno.EIO, errno.ENOSPC, errno.EDQUOT)

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
        _run()
    except GpuctlError as error:
        if os.environ.get("GPUCTL_DEBUG"):
            raise
        _end(error)
    except BrokenPipeError:
        _leave(Exit.FAILED)  # the reader of our output went away; nothing to tell it
    except Exception as error:  # the last resort, so that a bug is one line and not a wall
        if os.environ.get("GPUCTL_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is None:
            _end(
                GpuctlError(
                    f"the output cannot be written: {error.strerror}",
                    next="make room or write it elsewhere, then the same command again",
                )
            )
        bug = GpuctlError(
            f"internal error: {type(error).__name__}: {error}",
            cause="a bug in gpuctl",
            next="run again with: gpuctl --debug ... and report it",
        )
        _end(bug)


def _run() -> None:
    try:
        app()
    except SystemExit:
        sys.stdout.flush()  # at the interpreter's end nobody could say what went wrong
        raise


def _end(error: GpuctlError) -> NoReturn:
    """Say it and exit with its code, whether or not somebody can read it."""
    with suppress(OSError):
        print(_shown(error), file=sys.stderr, flush=True)
    _leave(error.exit_code)


def _leave(code: Exit) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # what is left of it would fail again at the interpreter's end, and change the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(int(code))
