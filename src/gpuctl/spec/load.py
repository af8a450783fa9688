"""Read a spec: positions kept, every finding at once, nothing raised but for a file that cannot be read at all."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.document import Document, Loc, dotted, parse
from gpuctl.spec.findings import Finding
from gpuctl.spec.model import Cluster, Site
from gpuctl.spec.resolve import resolve
from gpuctl.spec.resolved import Resolved, SpecPath


@dataclass(frozen=True)
class Loaded:
    """``resolved`` is None when the spec cannot be understood; with error findings it must not be used.

    ``cluster``: what was written, where there is ``resolved``; ``at`` finds positions in it.
    """

    resolved: Resolved | None
    findings: tuple[Finding, ...]
    cluster: Cluster | None = None
    at: Callable[[Loc], SpecPath] | None = None


def load(path: Path, site: Path | None = None) -> Loaded:
    """The spec, with its site block replaced whole by the file ``site`` when given. GpuctlError: unreadable file."""
    return load_text(read(path), path, site)


def load_text(text: str, path: Path, site: Path | None = None) -> Loaded:
    """As ``load``, of a spec that is not, or not yet, in the file ``path``."""
    document = parse(text, str(path))
    other = parse(read(site), str(site)) if site else None
    findings = [*document.findings, *(other.findings if other else ())]
    value = document.value
    if not isinstance(value, dict):
        if not findings:
            document.refuse((), "SPEC-01", "a spec is a mapping of keys", "see examples/homelab.yaml")
        return Loaded(None, tuple(sorted([*document.findings, *(other.findings if other else ())])))
    if other is not None:
        value = {**value, "site": other.value}

    def at(loc: Loc, *, key: bool = False) -> SpecPath:
        if other is not None and loc[:1] == ("site",):
            return _in_site_file(other, loc, key=key)
        return document.at(loc, key=key)

    try:
        cluster = Cluster.model_validate(value)
    except ValidationError as error:
        findings += _refused(error, value, at, findings)
        known = _read_as_known(value, error)
        if known is None:
            return Loaded(None, tuple(sorted(findings)))
        cluster = known
    resolved = resolve(cluster, at, (site or path).resolve().parent)
    from gpuctl.spec import rules

    findings += rules.judge(resolved, cluster, at)
    return Loaded(resolved, tuple(sorted(findings)), cluster, at)


def _read_as_known(value: dict[str, Any], error: ValidationError) -> Cluster | None:
    """What it is with unknown keys read as those that they resemble, else without them; None: more is wrong with it.

    So the rules have their say about the rest, and say nothing of what is only misspelt.
    """
    problems = error.errors(include_url=False, include_input=False)
    unknown = [tuple(problem["loc"]) for problem in problems if problem["type"] == "extra_forbidden"]
    for renamed in (True, False) if unknown else ():
        known = copy.deepcopy(value)
        for loc in unknown:
            holder = _value_at(known, loc[:-1])
            if not isinstance(holder, dict) or loc[-1] not in holder:
                continue
            content, near = holder.pop(loc[-1]), _resembled(loc)
            if renamed and near and near not in holder:
                holder[near] = content
        with suppress(ValidationError):
            return Cluster.model_validate(known)
    return None


class _SiteOnly(BaseModel):
    """Gives what is wrong in a site file the places that it has in a spec."""

    site: Site


def load_site(path: Path) -> Site:
    """A site file by itself. GpuctlError (exit 2): unreadable, or not one."""
    document = parse(read(path), str(path))
    findings, value, site = list(document.findings), {"site": document.value}, None
    try:
        site = _SiteOnly.model_validate(value).site
    except ValidationError as error:
        findings += _refused(error, value, partial(_in_site_file, document), findings)
    if site is None or findings:
        raise GpuctlError(
            f"{path} is no site file",
            cause="\n".join(map(str, findings)),
            next="gpuctl schema --of site",
            exit_code=Exit.USAGE,
        )
    return site


def _in_site_file(document: Document, loc: Loc, *, key: bool = False) -> SpecPath:
    inner = document.at(loc[1:], key=key)
    return SpecPath(inner.file, inner.line, inner.column, dotted(loc))


def read(path: Path) -> str:
    """The file's text. GpuctlError (exit 2): unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise GpuctlError(
            f"there is no {path}",
            next="name the spec: gpuctl COMMAND FILE (examples/homelab.yaml is a start)",
            exit_code=Exit.USAGE,
        ) from None
    except UnicodeDecodeError as error:
        raise GpuctlError(f"{path} is not UTF-8 text", cause=str(error), exit_code=Exit.USAGE) from error
    except (OSError, ValueError) as error:
        raise GpuctlError(f"cannot read {path}: {error}", exit_code=Exit.USAGE) from error


def _refused(error: ValidationError, value: Any, at: Any, before: Sequence[Finding]) -> Iterator[Finding]:
    """What the model refuses, once a place: a trap's own finding says more than the type error that follows from it.

    Keys that are missing stand at the first one that is there, and each is told.
    """
    said = {(finding.at.file, finding.at.line, finding.at.column) for finding in before}
    told = set()
    for problem in error.errors(include_url=False, include_input=False):
        found = _finding(problem, value, at)
        place = found.at.file, found.at.line, found.at.column
        of_keys = found.at.field if problem["type"] in ("missing", "extra_forbidden") else ""
        if place not in said and (place, of_keys) not in told:
            told.add((place, of_keys))
            yield found


def _finding(problem: Any, value: Any, at: Any) -> Finding:
    loc: Loc = tuple(problem["loc"])
    kind = problem["type"]
    if kind == "extra_forbidden":
        from gpuctl.spec.rules.permissions import refusal

        if refused := refusal(loc[-1]):
            return Finding(at(loc, key=True), "error", "SPEC-07", *refused)
        near = _resembled(loc)
        fix = f"did you mean {near}?" if near else f"known here: {', '.join(_fields_at(loc[:-1]))}"
        return Finding(at(loc, key=True), "error", "SPEC-04", f"unknown key {loc[-1]!r}", fix)
    if kind == "missing":
        return Finding(at(loc), "error", "SPEC-05", "this key is missing", f"see gpuctl explain {_general(loc)}")
    if kind == "string_type" and isinstance(given := _value_at(value, loc), (int, float)):
        return Finding(
            at(loc),
            "error",
            "SPEC-06",
            f"{_plain(given)} is no text to YAML, text is wanted",
            f'quote it: "{_plain(given)}"',
        )
    if kind in ("model_type", "dict_type", "list_type") and _value_at(value, loc) is None:
        return Finding(at(loc), "error", "SPEC-06", "this is empty", "fill it in, or leave the key out")
    message = str(problem["msg"]).removeprefix("Value error, ")
    return Finding(at(loc), "error", "SPEC-06", message, f"see gpuctl explain {_general(loc)}")


def _plain(value: float | bool) -> str:
    """As YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value_at(value: Any, loc: Loc) -> Any:
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _general(loc: Loc) -> str:
    return ".".join(str(part) for part in loc if isinstance(part, str))


def _resembled(loc: Loc) -> str:
    """The key known there that an unknown one is nearest to; "" when none is near."""
    return next(iter(difflib.get_close_matches(str(loc[-1]), _fields_at(loc[:-1]), 1)), "")


def _fields_at(loc: Loc) -> list[str]:
    """Keys of the model at a place in the spec."""
    from typing import get_args

    here: Any = Cluster
    for part in loc:
        if isinstance(part, str) and isinstance(here, type) and issubclass(here, BaseModel):
            annotation = next((f.annotation for n, f in here.model_fields.items() if part in (n, f.alias)), None)
            candidates: list[Any] = [annotation]
            here = None
            while candidates:
                candidate = candidates.pop()
                if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                    here = candidate
                candidates += get_args(candidate)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [field.alias or name for name, field in here.model_fields.items()]
    return []
