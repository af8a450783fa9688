"""The spec as JSON Schema."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from gpuctl.spec.model import Cluster, Site


@cache
def schema_of(part: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema of one part of the spec."""
    return part.model_json_schema(by_alias=True)


# what `gpuctl schema --of` knows by name of the files people write
WRITTEN: dict[str, tuple[str, type[BaseModel]]] = {
    "cluster": ("gpuctl cluster.yaml", Cluster),
    "site": ("gpuctl site file (--site)", Site),
}


def schema(name: str = "cluster") -> dict[str, Any]:
    """JSON Schema (2020-12) of one of WRITTEN with descriptions, for editors."""
    title, part = WRITTEN[name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **{key: value for key, value in schema_of(part).items() if key != "title"},
    }
