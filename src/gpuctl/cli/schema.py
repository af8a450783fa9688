"""gpuctl schema: the spec as JSON Schema."""

from __future__ import annotations


def command() -> None:
    """Print the JSON Schema of the spec, for editors."""
    from gpuctl.app import print_json
    from gpuctl.spec.schema import schema

    print_json(schema())
