"""Explain a field of the spec or a rule, from the model and the rules themselves."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gpuctl.spec import rules, units
from gpuctl.spec.model import Cluster
from gpuctl.spec.schema import schema_of


@dataclass(frozen=True)
class Described:
    """A field: ``type`` in words, ``default`` as it would be written, "" when required."""

    name: str
    type: str
    default: str
    required: bool
    text: str
    example: str


def described(part: type[BaseModel] = Cluster, above: str = "") -> Iterator[Described]:
    """Every field, parents before children, in the model's order."""
    for name, info in part.model_fields.items():
        path = f"{above}{info.alias or name}"
        child = _model(info.annotation)
        yield Described(
            path, _type(part, info.alias or name, child), _default(info), info.is_required(), *_texts(part, name, info)
        )
        if child is not None:
            yield from described(child, f"{path}.")


def groups(part: type[BaseModel] = Cluster, above: str = "") -> frozenset[str]:
    """The fields that only hold others and are always there."""
    found: set[str] = set()
    for name, info in part.model_fields.items():
        path = f"{above}{info.alias or name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found.add(path)
        if (child := _model(info.annotation)) is not None:
            found |= groups(child, f"{path}.")
    return frozenset(found)


def explain(name: str) -> str:
    """Text for people. KeyError with the nearest names when there is no such field or rule."""
    for rule in rules.ALL:
        if rule.id == name.upper():
            source = f"\n  source   {rule.source}" if rule.source else ""
            return f"{rule.id} ({rule.severity}): {rule.title}\n  why      {rule.reason}{source}"
    every = {field.name: field for field in described()}
    wanted = "".join(part for part in name.replace("[]", "").split() if part)
    field = every.get(wanted)
    if field is None:
        near = difflib.get_close_matches(name, [*every, *(rule.id for rule in rules.ALL)], 3)
        raise KeyError(f"there is no field or rule {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    lines = [field.name, f"  {field.text}", f"  type     {field.type}"]
    lines.append("  required" if field.required else f"  default  {field.default}")
    if field.example:
        lines.append(f"  example  {field.example}")
    inside = [other for other in every if other.startswith(f"{wanted}.") and "." not in other[len(wanted) + 1 :]]
    if inside:
        lines.append(f"  holds    {', '.join(other[len(wanted) + 1 :] for other in inside)}")
    return "\n".join(lines)


def reference() -> str:
    """The whole reference in Markdown: every field, every rule."""
    lines = [
        "# The spec, field by field",
        "",
        "Made by `gpuctl explain --markdown`; `gpuctl explain FIELD` has one field, `gpuctl schema` the JSON schema.",
        "Sizes carry a unit (`16GiB`), durations too (`30m`). Addresses are single, a list, or a range `a-b`.",
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for field in described():
        default = "**required**" if field.required else f"`{field.default}`"
        example = f" E.g. `{field.example}`." if field.example else ""
        cells = (f"`{field.name}`", field.type, default, f"{field.text}{example}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Rules", "", "| rule | severity | says | why | source |", "|---|---|---|---|---|"]
    lines += [f"| {rule.id} | {rule.severity} | {rule.title} | {rule.reason} | {rule.source} |" for rule in rules.ALL]
    return "\n".join(lines) + "\n"


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        if (found := _model(part)) is not None:
            return found
    return None


def _type(part: type[BaseModel], name: str, child: type[BaseModel] | None) -> str:
    shape = schema_of(part)["properties"][name]
    shapes = shape.get("anyOf", [shape])
    words = []
    for one in shapes:
        if "enum" in one:
            words.append(" | ".join(map(str, one["enum"])))
        elif "const" in one:
            words.append(str(one["const"]))
        elif one.get("type") == "array":
            words.append("list")
        elif one.get("type") not in ("null", None):
            words.append("mapping" if one["type"] == "object" else str(one["type"]))
    return " or ".join(words) or ("mapping" if child else "text")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    if info.default is PydanticUndefined:
        return "see below" if _model(info.annotation) else "empty"
    value = info.default
    text = str(info.metadata) + str(info.annotation)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and "size" in text:
        return units.show_size(value)
    if isinstance(value, int) and "duration" in text:
        return units.show_duration(value)
    return str(value)


def _texts(part: type[BaseModel], name: str, info: FieldInfo) -> tuple[str, str]:
    shape = schema_of(part)["properties"][info.alias or name]
    example = (shape.get("examples") or [""])[0]
    return info.description or "", str(example)
