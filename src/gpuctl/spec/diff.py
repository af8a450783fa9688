"""What differs between two specs once every default is explicit, and what each difference does. Pure.

Pools and profiles are known by their names, so that one more in front is one more and not another one each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import groupby, takewhile
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gpuctl.spec import units
from gpuctl.spec.document import Loc
from gpuctl.spec.effects import KINDS, Effect, effects
from gpuctl.spec.explain import unit_of
from gpuctl.spec.load import Loaded
from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved, SpecPath
from gpuctl.spec.versions import minor, order

ABSENT = "unset"


@dataclass(frozen=True)
class Difference:
    """``field`` as `gpuctl explain` knows it, ``path`` with the pool's or profile's name in it.

    ``at``: where the new spec says it, or would. ``follows``: neither spec says it, its default changed with another.
    ``less``: a number that got smaller, or went.
    """

    path: str
    field: str
    old: str
    new: str
    at: SpecPath
    follows: bool
    less: bool

    @property
    def effect(self) -> Effect:
        found = effects()[self.field]
        return found.coming if self.old == ABSENT else found.shrinking if self.less else found


@dataclass(frozen=True)
class Diff:
    """Names of nodes; ``replaced``: those with another VM id. ``moved``: (VM id, its node before, its node now)."""

    differences: tuple[Difference, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    moved: tuple[tuple[int, str, str], ...]

    @property
    def kinds(self) -> dict[str, int]:
        """How many differences are of each kind, the heaviest first."""
        counts = Counter(difference.effect.kind for difference in self.differences)
        return {kind: counts[kind] for kind in reversed(KINDS) if counts[kind]}


@dataclass(frozen=True)
class _Value:
    shown: str
    loc: Loc
    field: str
    given: bool
    amount: tuple[float, ...] = ()


def diff(old: Loaded, new: Loaded) -> Diff:
    """Both are understood (``resolved`` is there)."""
    assert old.resolved and new.resolved and new.at
    before, after = _values(old), _values(new)
    found = []
    for path in _ordered(before, after):
        was, now = before.get(path), after.get(path)
        one = now or was
        assert one
        old_text, new_text = was.shown if was else ABSENT, now.shown if now else ABSENT
        if old_text == new_text or _inside_absent(path, before, after):
            continue
        follows = bool(was and now and not was.given and not now.given)
        # what is no longer there has no place of its own: its list or block has
        loc = one.loc if now else tuple(takewhile(lambda part: isinstance(part, str), one.loc))
        less = bool(was and was.amount and (now.amount if now else ()) < was.amount)
        found.append(Difference(path, one.field, old_text, new_text, new.at(loc), follows, less))
    nodes, former = ({node.name: node.vm_id for node in spec.nodes} for spec in (new.resolved, old.resolved))
    owners = {vm_id: name for name, vm_id in former.items()}
    return Diff(
        tuple(found),
        added=tuple(name for name in nodes if name not in former),
        removed=tuple(name for name in former if name not in nodes),
        replaced=tuple(name for name, vm_id in nodes.items() if former.get(name, vm_id) != vm_id),
        moved=tuple((vm_id, owners[vm_id], name) for name, vm_id in nodes.items() if owners.get(vm_id, name) != name),
    )


def _ordered(before: Mapping[str, _Value], after: Mapping[str, _Value]) -> list[str]:
    """The new spec's order; what only the old one has stands behind its kind."""
    fields = {field: number for number, field in enumerate(effects())}
    places = {path: number for number, path in enumerate(after)}

    def place(path: str) -> tuple[int, int, str]:
        here = after.get(path) or before[path]
        return fields[here.field], places.get(path, len(after)), path

    return sorted(before.keys() | after.keys(), key=place)


def _inside_absent(path: str, before: Mapping[str, _Value], after: Mapping[str, _Value]) -> bool:
    """Whether a whole block comes or goes, which is said once."""
    other = before if path in after else after
    if path in other:
        return False
    parts = path.split(".")
    above = (".".join(parts[:length]) for length in range(1, len(parts)))
    return any(parent not in other and (parent in before or parent in after) for parent in above)


# --- every field of a spec by its path, as it would be written


def _values(loaded: Loaded) -> dict[str, _Value]:
    assert loaded.cluster and loaded.resolved
    found = dict(_walk(loaded.cluster, "", "", ()))
    for path, shown in _defaults(loaded.cluster, loaded.resolved):
        if path in found:  # a profile that nobody wrote has no place
            found[path] = replace(found[path], shown=shown)
    return {path: value for path, value in found.items() if value.shown != ABSENT}


def _walk(part: BaseModel, path: str, field: str, loc: Loc) -> Iterator[tuple[str, _Value]]:
    for name, info in type(part).model_fields.items():
        key, value = info.alias or name, getattr(part, name)
        here, general, place = f"{path}{key}", f"{field}{key}", (*loc, key)
        given = name in part.model_fields_set
        if isinstance(value, BaseModel):
            if general in effects():
                yield here, _Value("set", place, general, given)
            yield from _walk(value, f"{here}.", f"{general}.", place)
        elif isinstance(value, list) and value and all(isinstance(one, BaseModel) for one in value):
            names = [str(one.name) for one in value]
            # the first profile is the one that users get without choosing
            if general == "jupyterhub.profiles":
                yield here, _Value(", ".join(names), place, general, given)
            for index, one in enumerate(value):
                yield f"{here}[{names[index]}]", _Value("set", (*place, index), general, given)
                yield from _walk(one, f"{here}[{names[index]}].", f"{general}.", (*place, index))
        else:
            yield here, _Value(_shown(value, info), place, general, given, _amount(value))


def _amount(value: object) -> tuple[float, ...]:
    """What tells more from less: a number, or the minor of a release; () of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return ()
    if isinstance(value, str):
        return order(minor(value)) if re.match(r"v?\d+\.\d+\.\d+", value) else ()
    return (float(value),)


def _defaults(cluster: Cluster, resolved: Resolved) -> Iterator[tuple[str, str]]:
    """What a field that is not given comes to, where that hangs on other fields."""
    network, hub = resolved.network, resolved.jupyterhub
    yield "network.dns", _special(network.dns)
    yield "network.vrrp_router_id", str(network.vrrp_router_id)
    yield "storage.local.default", _bool(resolved.storage.local.default)
    yield "gpu.operator", resolved.gpu.operator
    if resolved.rancher:
        yield "management.rancher.version", resolved.rancher.version
    if hub:
        yield "jupyterhub.version", hub.version
        yield "jupyterhub.home.class", hub.home_class or ABSENT
        if hub.auth.ldap:
            yield "jupyterhub.auth.ldap.port", str(hub.auth.ldap.port)
        yield "jupyterhub.profiles", ", ".join(profile.name for profile in hub.profiles)
        for profile in hub.profiles:
            yield f"jupyterhub.profiles[{profile.name}].title", profile.title
            yield f"jupyterhub.profiles[{profile.name}].image", profile.image
    for pool in cluster.nodes.pools:
        gpus = next((node.gpus for node in resolved.nodes if node.pool == pool.name), None)
        if gpus:
            yield f"nodes.pools[{pool.name}].gpus.sharing", gpus.sharing


def _shown(value: object, info: FieldInfo) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return _bool(value)
    unit = unit_of(info)
    if isinstance(value, dict):
        pairs = (f"{key}: {units.show_size(one) if unit == 'size' else one}" for key, one in sorted(value.items()))
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, int) and unit:
        return units.show_size(value) if unit == "size" else units.show_duration(value)
    return _special(value)


def _special(value: Any) -> str:
    """Values that the model keeps in parts."""
    match value:
        case (str(algorithm), str(digest)) if algorithm in ("sha256", "sha512"):
            return f"{algorithm}:{digest[:12]}..."
        case (str(key), str(content), str(effect)):
            return f"{key}={content}:{effect}" if content else f"{key}:{effect}"
        case (IPv4Address(), *_):
            return "[" + ", ".join(_ranges(value)) + "]"
        case list() | tuple():
            return _list(value)
    return str(value)


def _ranges(addresses: Sequence[IPv4Address]) -> Iterator[str]:
    """Neighbours together, as ``a-b``."""
    for _, run in groupby(enumerate(addresses), key=lambda pair: int(pair[1]) - pair[0]):
        first, *rest = [str(address) for _, address in run]
        yield f"{first}-{rest[-1]}" if rest else first


def _list(values: Sequence[Any]) -> str:
    return "[" + ", ".join(_special(value) for value in values) + "]"


def _bool(value: bool) -> str:
    return "true" if value else "false"
