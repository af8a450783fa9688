"""Versions that do not fit together or have ended, from the dated table (spec/versions.yaml)."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule
from gpuctl.spec.versions import minor, order, table


def _ended(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    release = minor(resolved.kubernetes.version)
    if ended := table()["kubernetes_end_of_life"].get(release):
        yield ("kubernetes", "version"), f"Kubernetes {release} gets no fixes since {ended}", "use a supported release"


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


def _operator(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if not any(node.gpus for node in resolved.nodes):
        return
    wanted, kubernetes = minor(resolved.gpu.operator), minor(resolved.kubernetes.version)
    fitting = table()["gpu_operator_for"].get(kubernetes, "")
    loc = ("gpu", "operator") if cluster.gpu.operator else ("kubernetes", "version")
    known = table()["gpu_operator_supports"].get(wanted)
    way_out = f"use {fitting}" if fitting else "see the GPU Operator's platform support page"
    if order(wanted) < order(table()["gpu_operator_first_containerd_2"]):
        yield loc, f"GPU Operator {wanted} does not support containerd 2, which current K3s releases carry", way_out
    elif known is not None and not order(known[0]) <= order(kubernetes) <= order(known[1]):
        yield loc, f"GPU Operator {wanted} supports Kubernetes {known[0]} to {known[1]}, not {kubernetes}", way_out


RULES = (
    Rule("VER-01", "warning", "Kubernetes is supported", "Ended releases get no security fixes.", _ended),
    Rule("VER-02", "error", "The GPU driver exists for the OS", "The Operator pulls one driver image per OS.", _driver),
    Rule("VER-03", "warning", "The GPU Operator fits Kubernetes", "NVIDIA tests release lines together.", _operator),
)
