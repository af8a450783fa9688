"""What changing a field does on a living cluster, and what it reaches: the table beside this file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml

Kind = Literal["none", "in place", "restart", "power-cycle", "replace", "refused"]
# from harmless to impossible; replace: a machine goes or is made anew, which needs --replace NODE or --remove NODE
KINDS: tuple[Kind, ...] = get_args(Kind)
PHASES = ("provision", "bootstrap", "gpu", "manage", "jupyter", "verify")
CHARTS = {
    "gpu-operator": "gpu",
    "traefik": "manage",
    "nginx-ingress": "manage",
    "local-storage": "manage",
    "csi-driver-nfs": "manage",
    "nfs-subdir": "manage",
    "storage-classes": "manage",
    "cert-manager": "manage",
    "issuers": "manage",
    "rancher": "manage",
    "policies": "jupyter",
    "jupyterhub": "jupyter",
}
# the phase that uses each rendered file, by the file's short name
OWNERS = {"terraform": "provision", "inventory": "bootstrap", **CHARTS}
FILES = {
    "terraform": "terraform/gpuctl.auto.tfvars.json",
    "inventory": "ansible/inventory.json",
    **{name: f"helm/{name}.values.yaml" for name in CHARTS},
    "nfs-subdir": "helm/nfs-subdir-external-provisioner.values.yaml",
}


@dataclass(frozen=True)
class Effect:
    """``phases`` in their order; ``files`` as `gpuctl render` names them.

    ``adding``: words for a block or a list's item that comes, where that disturbs nothing but its change or end does.
    ``lowering``: words for a value that gets smaller, or goes, where that is refused and growing is not.
    """

    kind: Kind
    words: str
    phases: tuple[str, ...]
    files: tuple[str, ...]
    adding: str = ""
    lowering: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"

    @property
    def coming(self) -> Effect:
        """What it is when the block or item was not there before."""
        return replace(self, kind="in place", words=self.adding) if self.adding else self

    @property
    def shrinking(self) -> Effect:
        """What it is when the new value is smaller than the old one."""
        return replace(self, kind="refused", words=self.lowering) if self.lowering else self


@cache
def effects() -> dict[str, Effect]:
    """By field, written as `gpuctl explain` writes it (``nodes.pools.memory``). Groups have none of their own."""
    rows = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {
        field: Effect(kind, words, tuple(phases.split()), tuple(FILES[name] for name in files.split()), *more)
        for field, (kind, phases, files, words, *more) in rows.items()
    }
