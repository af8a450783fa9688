"""The GPU Operator's values, and what the nodes offer when it has done its work.

Keys and versions: the official chart; K3s' containerd socket and driver upgrades: NVIDIA's and K3s' documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuctl.render.charts import PRIVILEGED, Release, toleration
from gpuctl.spec.fit import gpu_nodes as gpu_nodes
from gpuctl.spec.fit import mig_strategy
from gpuctl.spec.fit import offered as offered
from gpuctl.spec.resolved import Node, Resolved
from gpuctl.spec.versions import table

NAMESPACE = "gpu-operator"
CHART = "gpu-operator"
RUNTIME_CLASS = "nvidia"
SHARING = "gpuctl-sharing"
MIG_STATE = "nvidia.com/mig.config.state"
PLUGIN_LABEL, MIG_LABEL, UNCUT = "nvidia.com/device-plugin.config", "nvidia.com/mig.config", "all-disabled"
# the Operator's own default, which naming tolerations replaces
OWN_TAINT = ("nvidia.com/gpu", "NoSchedule")
OWN_TOLERATION = {"key": OWN_TAINT[0], "operator": "Exists", "effect": OWN_TAINT[1]}


def release(spec: Resolved) -> Release | None:
    """The GPU Operator; None when no node has a GPU."""
    nodes = gpu_nodes(spec)
    if not nodes:
        return None
    taints = sorted({taint for node in nodes for taint in node.taints}, key=str)
    tolerations = [OWN_TOLERATION, *(toleration(t) for t in taints if (t.key, t.effect) != OWN_TAINT)]
    values: dict[str, Any] = {
        "cdi": {"enabled": True},
        "daemonsets": {"tolerations": tolerations},
        "dcgmExporter": {"enabled": True},
        # gpuctl gates driver upgrades: the Operator's own would evict notebooks
        "driver": {"enabled": spec.gpu.driver == "operator", "upgradePolicy": {"autoUpgrade": False}},
        "mig": {"strategy": mig_strategy(nodes)},
        "migManager": _mig_manager(nodes),
        "nfd": {"enabled": True},
        "node-feature-discovery": {"worker": {"tolerations": tolerations}},
        "operator": {"upgradeCRD": True},
        "toolkit": {
            "enabled": True,
            "env": [
                {"name": "CONTAINERD_SOCKET", "value": "/run/k3s/containerd/containerd.sock"},
                # without it any pod gets every card by asking with an environment variable
                {"name": "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED", "value": "false"},
            ],
        },
    }
    if spec.gpu.driver_version:
        values["driver"]["version"] = spec.gpu.driver_version
    if shared := _sharing(nodes):
        values["devicePlugin"] = {"config": {"create": True, "name": SHARING, "default": "none", "data": shared}}
    return Release(CHART, NAMESPACE, CHART, spec.gpu.operator, table()["charts"][CHART], values, PRIVILEGED)


def _mig_manager(nodes: tuple[Node, ...]) -> dict[str, Any]:
    if not any(node.gpus and node.gpus.mig for node in nodes):
        return {"enabled": False}
    # a card that is passed through can often not be reset, and MIG mode then waits for the machine's next start
    # (NVML, nvmlDeviceSetMigMode; NVIDIA/gpu-operator#1606)
    return {"enabled": True, "env": [{"name": "WITH_REBOOT", "value": "true"}]}


def _sharing(nodes: tuple[Node, ...]) -> dict[str, str]:
    """The device plugin's configurations by name; {} when nothing is time-sliced."""
    replicas = {node.gpus.replicas for node in nodes if node.gpus and node.gpus.sharing == "time-slicing"}
    if not replicas:
        return {}
    return {"none": "version: v1\n"} | {
        f"time-slicing-{count}": (
            "version: v1\nsharing:\n  timeSlicing:\n    renameByDefault: false\n    failRequestsGreaterThanOne: true\n"
            f"    resources:\n      - name: nvidia.com/gpu\n        replicas: {count}\n"
        )
        for count in sorted(replicas)
    }


def node_labels(node: Node) -> dict[str, str]:
    """The labels by which a node chooses how its cards are shared."""
    if node.gpus and node.gpus.sharing == "time-slicing":
        return {PLUGIN_LABEL: f"time-slicing-{node.gpus.replicas}"}
    if node.gpus and node.gpus.mig:
        return {MIG_LABEL: node.gpus.mig}
    return {}


def label_changes(node: Node, have: Mapping[str, str]) -> dict[str, str | None]:
    """What must be set on the node (None: removed) so that its cards are shared as the spec says."""
    wanted: dict[str, str | None] = {**node_labels(node)}
    if PLUGIN_LABEL not in wanted and PLUGIN_LABEL in have:
        wanted[PLUGIN_LABEL] = None
    if MIG_LABEL not in wanted and have.get(MIG_LABEL, UNCUT) != UNCUT:
        wanted[MIG_LABEL] = UNCUT  # the Operator would set a missing one to this by itself
    return {key: value for key, value in wanted.items() if have.get(key) != value}
