"""Explain a field of the spec or a rule, from the model and the rules themselves."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gpuctl.spec import rules, units
from gpuctl.spec.effects import effects
from gpuctl.spec.findings import SHAPE
from gpuctl.spec.model import Cluster
from gpuctl.spec.rules.base import Rule
from gpuctl.spec.schema import schema_of

UNITS = {"size": "bytes, written with a unit (16GiB)", "duration": "seconds, written with a unit (30m)", "": ""}


@dataclass(frozen=True)
class Described:
    """A field: ``type`` in words, ``unit`` "" for none, ``default`` as it would be written, "" when required."""

    name: str
    type: str
    unit: str
    default: str
    required: bool
    text: str
    example: str


def described_rules() -> Iterator[Rule]:
    """What the loader refuses, which breaks before any rule could look, then every rule."""
    yield from (Rule(id, "error", title, reason, lambda _, __: ()) for id, (title, reason) in SHAPE.items())
    yield from rules.ALL


def described(part: type[BaseModel] = Cluster, above: str = "") -> Iterator[Described]:
    """Every field, parents before children, in the model's order."""
    for name, info in part.model_fields.items():
        path = f"{above}{info.alias or name}"
        child = _model(info.annotation)
        yield Described(
            path,
            _type(part, info.alias or name, child),
            UNITS[unit_of(info)],
            _default(info),
            info.is_required(),
            *_texts(part, name, info),
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
    if rule := _rule(name):
        source = f"\n  source   {rule.source}" if rule.source else ""
        return f"{rule.id} ({rule.severity}): {rule.title}\n  why      {rule.reason}{source}"
    field = _field(name)
    lines = [field.name, f"  {field.text}", f"  type     {field.type}"]
    lines += [f"  unit     {field.unit}"] if field.unit else []
    lines.append("  required" if field.required else f"  default  {field.default}")
    if field.example:
        lines.append(f"  example  {field.example}")
    if inside := holds(field.name):
        lines.append(f"  holds    {', '.join(inside)}")
    if effect := effects().get(field.name):
        lines.append(f"  changing {effect}")
        lines += [f"  adding   {effect.coming}"] if effect.adding else []
        lines += [f"  less     {effect.shrinking}"] if effect.lowering else []
        lines.append(f"  phases   {', '.join(effect.phases) or 'none'}")
        lines.append(f"  files    {', '.join(effect.files) or 'none of those that gpuctl render writes'}")
    return "\n".join(lines)


def as_json(name: str) -> dict[str, object]:
    """The same for ``-o json``."""
    if rule := _rule(name):
        said = {"rule": rule.id, "severity": rule.severity, "title": rule.title, "why": rule.reason}
        return {**said, "source": rule.source}
    field = _field(name)
    effect = effects().get(field.name)
    return {
        "field": field.name,
        "text": field.text,
        "type": field.type,
        "unit": field.unit,
        "required": field.required,
        "default": field.default,
        "example": field.example,
        "holds": list(holds(field.name)),
        # null: a group, which only its fields change
        "changing": {"kind": effect.kind, "words": effect.words} if effect else None,
        "adding": {"kind": effect.coming.kind, "words": effect.coming.words} if effect else None,
        "phases": list(effect.phases) if effect else [],
        "files": list(effect.files) if effect else [],
    }


def top() -> Iterator[Described]:
    """The fields that a spec begins with."""
    return (field for field in described() if "." not in field.name)


def holds(name: str) -> tuple[str, ...]:
    """The names of a field's own fields."""
    inside = (field.name.removeprefix(f"{name}.") for field in described() if field.name.startswith(f"{name}."))
    return tuple(part for part in inside if "." not in part)


def _rule(name: str) -> Rule | None:
    return next((rule for rule in described_rules() if rule.id == name.upper()), None)


def _field(name: str) -> Described:
    every = {field.name: field for field in described()}
    # a place in a spec names its field too: nodes.pools[0].memory
    place = "".join(re.sub(r"\[[^\]]*\]", "", name).split())
    field = every.get(place) or _holder(place, every)
    if field is None:
        near = difflib.get_close_matches(name, [*every, *(rule.id for rule in described_rules())], 3)
        raise KeyError(f"there is no field or rule {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    return field


def _holder(place: str, every: Mapping[str, Described]) -> Described | None:
    """The mapping that a key of the operator's own belongs to."""
    above = (held for held in every.values() if held.type == "mapping" and place.startswith(f"{held.name}."))
    return next((held for held in above if not holds(held.name)), None)


def reference() -> str:
    """The whole reference in Markdown: every field, every rule."""
    lines = [
        "# The spec, field by field",
        "",
        "Made by `gpuctl explain --markdown`; `gpuctl explain FIELD` has one field, `gpuctl schema` the JSON schema.",
        "Sizes carry a unit (`16GiB`), durations too (`30m`). Addresses are single, a list, or a range `a-b`.",
        "",
        "The last column: what changing a field does on a living cluster. `gpuctl diff OLD NEW` says it of two specs.",
        "",
        "| field | type | default | meaning | changing it |",
        "|---|---|---|---|---|",
    ]
    for field in described():
        default = "**required**" if field.required else f"`{field.default}`"
        example = f" E.g. `{field.example}`." if field.example else ""
        effect = effects().get(field.name)
        changing = f"**{effect.kind}**: {effect.words}" if effect else ""
        changing += f"; adding it is **{effect.coming.kind}**: {effect.adding}" if effect and effect.adding else ""
        changing += (
            f"; less of it is **{effect.shrinking.kind}**: {effect.lowering}" if effect and effect.lowering else ""
        )
        cells = (f"`{field.name}`", field.type, default, f"{field.text}{example}", changing)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Rules", "", "| rule | severity | says | why | source |", "|---|---|---|---|---|"]
    for rule in described_rules():
        lines.append(f"| {rule.id} | {rule.severity} | {rule.title} | {rule.reason} | {rule.source} |")
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


def unit_of(info: FieldInfo) -> str:
    """size (bytes), duration (seconds), or ""."""
    text = str(info.metadata) + str(info.annotation)
    return next((name for name in ("size", "duration") if f"function {name} " in text), "")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    if info.default is PydanticUndefined:
        return "see below" if _model(info.annotation) else "empty"
    value, unit = info.default, unit_of(info)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and unit == "size":
        return units.show_size(value)
    if isinstance(value, int) and unit == "duration":
        return units.show_duration(value)
    return str(value)


def _texts(part: type[BaseModel], name: str, info: FieldInfo) -> tuple[str, str]:
    shape = schema_of(part)["properties"][info.alias or name]
    # a default shows how it is written
    example = "" if _default(info) not in ("", "none", "empty") else str((shape.get("examples") or [""])[0])
    return info.description or "", example
