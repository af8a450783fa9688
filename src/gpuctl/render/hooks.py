"""The two bundles that only Fleet installs: where a Prometheus Operator finds metrics, and a smoke test."""

from __future__ import annotations

from typing import Any

from gpuctl.render import gpu
from gpuctl.render.charts import Release, toleration
from gpuctl.spec.resolved import Resolved

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def monitoring(spec: Resolved) -> Release:
    """ServiceMonitors for what has metrics. Labels and ports: the GPU Operator's and z2jh's Services."""
    targets: list[dict[str, Any]] = []
    if gpu.gpu_nodes(spec):
        labels = {"app": "nvidia-dcgm-exporter"}
        targets.append(_target("gpus", gpu.NAMESPACE, labels, "gpu-metrics", "/metrics"))
    if spec.jupyterhub:
        labels = {"app": "jupyterhub", "component": "hub"}
        targets.append(_target("jupyterhub", "jupyterhub", labels, "hub", "/hub/metrics"))
    return Release("monitoring", "gpuctl-monitoring", "monitoring", "1.0.0", "", {"targets": targets}, RESTRICTED)


def _target(name: str, namespace: str, labels: dict[str, str], port: str, path: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": labels, "port": port, "path": path}


def tests(spec: Resolved) -> Release:
    """A Deployment that answers with the cluster's name."""
    taints = sorted({taint for node in spec.nodes for taint in node.taints}, key=str)
    values = {
        "image": spec.probe_image,
        "cluster": spec.name,
        "tolerations": [toleration(taint) for taint in taints],
    }
    return Release("tests", "gpuctl-tests", "tests", "1.0.0", "", values, RESTRICTED)
