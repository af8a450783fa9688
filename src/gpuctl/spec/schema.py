"""The spec as JSON Schema."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from gpuctl.spec.model import Cluster


@cache
def schema_of(part: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema of one part of the spec."""
    return part.model_json_schema(by_alias=True)


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of cluster.yaml with descriptions, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpuctl cluster.yaml",
        **{key: value for key, value in schema_of(Cluster).items() if key != "title"},
    }
