"""Versions that do not fit together or have ended, from the dated table beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule


@cache
def table() -> dict[str, Any]:
    """The table; ``date`` says when it was made."""
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("compatibility.yaml").read_text(encoding="utf-8"))
    return found


def _ended(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    minor = ".".join(resolved.kubernetes.version.removeprefix("v").split(".")[:2])
    ended = table()["kubernetes_end_of_life"].get(minor)
    if ended:
        yield ("kubernetes", "version"), f"Kubernetes {minor} gets no fixes since {ended}", "use a supported release"


def _driver(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    with_images = table()["operator_driver_images"]
    if (
        any(node.gpus for node in resolved.nodes)
        and cluster.gpu.driver == "operator"
        and cluster.image.os not in with_images
    ):
        yield (
            ("image", "os"),
            f"the GPU Operator has no driver image for {cluster.image.os}",
            f"use {' or '.join(with_images)}, or gpu.driver: preinstalled",
        )


RULES = (
    Rule("VER-01", "warning", "Kubernetes is supported", "Ended releases get no security fixes.", _ended),
    Rule("VER-02", "error", "The GPU driver exists for the OS", "The Operator pulls one driver image per OS.", _driver),
)
