"""gpuctl schema: what gpuctl reads and what it prints, as JSON Schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gpuctl.run.errors import Exit, GpuctlError


def command(
    of: Annotated[
        str,
        typer.Option(
            "--of",
            metavar="NAME",
            help="cluster or site (files you write), or a document of -o json: plan, verify, validate, events ...",
            envvar="GPUCTL_SCHEMA_OF",
        ),
    ] = "cluster",
) -> None:
    """Print the JSON Schema of the spec, for editors, or of what a command prints with -o json."""
    from gpuctl.report import schemas
    from gpuctl.spec import schema

    if of in schema.WRITTEN:
        print(json.dumps(schema.schema(of), indent=2))
    elif of in schemas.names():
        print(json.dumps(schemas.schema(of), indent=2))
    else:
        known = ", ".join([*schema.WRITTEN, *schemas.names()])
        raise GpuctlError(f"there is no schema of {of!r}", cause=f"known: {known}", exit_code=Exit.USAGE)
