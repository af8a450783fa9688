"""gpuctl explain: what a field or a rule is about."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.run.errors import Exit, GpuctlError


def command(
    field: Annotated[str, typer.Argument(help="A field (network.api_vip) or a rule (NET-01).")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The whole reference, as docs/spec.md has it.")] = False,
) -> None:
    """Explain a field of the spec, or a rule."""
    from gpuctl.spec.explain import explain, reference

    if markdown:
        print(reference(), end="")
        return
    if not field:
        raise GpuctlError("what is to be explained?", next="gpuctl explain network.api_vip", exit_code=Exit.USAGE)
    try:
        print(explain(field))
    except KeyError as error:
        raise GpuctlError(str(error.args[0]), next="gpuctl schema", exit_code=Exit.USAGE) from None
