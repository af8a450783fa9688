"""What a rule is: one claim about a resolved spec, with its reason and where that comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gpuctl.spec.findings import Severity
from gpuctl.spec.model import Cluster, ControlPlane, Pool
from gpuctl.spec.resolved import Resolved

Loc = tuple[str | int, ...]
# (where in the spec, what is wrong, the way out)
Broken = tuple[Loc, str, str]


@dataclass(frozen=True)
class Rule:
    """``check`` gives every place that breaks it. ``source``: where the reason is written down, for who doubts it."""

    id: str
    severity: Severity
    title: str
    reason: str
    check: Callable[[Resolved, Cluster], Iterable[Broken]]
    source: str = ""


def machines(cluster: Cluster) -> Iterator[tuple[Loc, str, ControlPlane | Pool]]:
    """Everything that nodes are made of: (place, what its nodes' names begin with, the machine)."""
    yield ("nodes", "control_plane"), "cp", cluster.nodes.control_plane
    for number, pool in enumerate(cluster.nodes.pools):
        yield ("nodes", "pools", number), pool.name, pool
