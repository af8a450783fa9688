"""Semantics of the spec, one file per family. A new rule is an entry in its family's RULES."""

from __future__ import annotations

from collections.abc import Callable

from gpuctl.spec.findings import Finding
from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved, SpecPath
from gpuctl.spec.rules import (
    backend,
    capacity,
    compatibility,
    exclusions,
    gitops,
    gpus,
    jupyterhub,
    management,
    network,
    scheduling,
    security,
    topology,
)
from gpuctl.spec.rules.base import Loc, Rule

ALL: tuple[Rule, ...] = (
    *network.RULES,
    *topology.RULES,
    *gpus.RULES,
    *jupyterhub.RULES,
    *capacity.RULES,
    *scheduling.RULES,
    *compatibility.RULES,
    *security.RULES,
    *management.RULES,
    *gitops.RULES,
    *exclusions.RULES,
    *backend.RULES,
)


def judge(resolved: Resolved, cluster: Cluster, at: Callable[[Loc], SpecPath]) -> list[Finding]:
    """Findings of every rule."""
    return [
        Finding(at(loc), rule.severity, rule.id, message, fix)
        for rule in ALL
        for loc, message, fix in rule.check(resolved, cluster)
    ]
