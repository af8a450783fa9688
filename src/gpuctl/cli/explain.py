"""gpuctl explain: what a field or a rule is about, and what changing a field does."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli.options import Output, is_json, print_document
from gpuctl.run.errors import Exit, GpuctlError


def command(
    field: Annotated[str, typer.Argument(help="A field (network.api_vip) or a rule (NET-01).")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The whole reference, as docs/spec.md has it.")] = False,
    output: Output = "text",
) -> None:
    """Explain a field of the spec, or a rule: what it is, and what changing it does on a living cluster."""
    from gpuctl.spec import explain

    as_json = is_json(output)
    if markdown:
        print(explain.reference(), end="")
        return
    if not field:
        names = [found.name for found in explain.top()]
        if as_json:
            print_document({"holds": names})
            return
        for found in explain.top():
            print(f"{found.name:<{max(map(len, names))}}  {found.text}")
        print("\nNext: gpuctl explain network, gpuctl explain network.api_vip, gpuctl explain NET-01")
        return
    try:
        if as_json:
            print_document(explain.as_json(field))
        else:
            print(explain.explain(field))
    except KeyError as error:
        raise GpuctlError(str(error.args[0]), next="gpuctl explain lists the fields", exit_code=Exit.USAGE) from None
