"""A Helm release as gpuctl wants it: pure data, rendered from the spec by one module per component."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from gpuctl.spec import fit
from gpuctl.spec.resolved import Node, Resolved, Taint

# what the Pod Security admission must let through for components that need the host
PRIVILEGED = {"pod-security.kubernetes.io/enforce": "privileged"}


@dataclass(frozen=True)
class Release:
    """``repository``: where the chart comes from on a connected site, "" for one of our own (templates/charts).

    ``labels`` are the namespace's. ``background``: components (label ``component``) that nobody waits for.
    """

    name: str
    namespace: str
    chart: str
    version: str
    repository: str
    values: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    background: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether gpuctl carries the chart itself."""
        return not self.repository

    def values_yaml(self) -> str:
        """The values as Helm is given them: same spec, same bytes."""
        # through JSON, so that a part used twice is written twice instead of as a YAML alias
        return yaml.safe_dump(json.loads(json.dumps(self.values)), sort_keys=True, width=120)


def toleration(taint: Taint) -> dict[str, str]:
    """What lets a pod onto a node with this taint."""
    matched = {"operator": "Equal", "value": taint.value} if taint.value else {"operator": "Exists"}
    return {"key": taint.key, "effect": taint.effect, **matched}


def tolerations(nodes: Iterable[Node]) -> list[dict[str, str]]:
    """What lets a pod onto any of these nodes."""
    return [toleration(taint) for taint in sorted({taint for node in nodes for taint in node.taints}, key=str)]


def core_tolerations(spec: Resolved) -> list[dict[str, str]]:
    """For what the cluster itself needs: it runs where nothing keeps it away; where everything does, on the servers."""
    return [] if fit.untainted(spec) else tolerations(spec.servers)


def quantity(size: int) -> str:
    """Bytes as Kubernetes writes them: ``10Gi``."""
    for power, unit in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return str(size)
