"""Probe pods: one on every node, which only sleeps, so that its network can be looked at from the host."""

from __future__ import annotations

from collections.abc import Mapping, Set
from contextlib import AbstractContextManager
from typing import Any

from gpuctl.context import Context
from gpuctl.phases import namespaces
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError

READY_SECONDS = 180.0
NAME = "gpuctl-probe"


def own_namespace(ctx: Context) -> AbstractContextManager[str]:
    """A namespace of verify for a block."""
    return namespaces.temporary(ctx, "verify", "verify")


def post(ctx: Context, namespace: str) -> None:
    """Ask for the probes."""
    ctx.kubernetes.post(f"/apis/apps/v1/namespaces/{namespace}/daemonsets", daemon_set(ctx, NAME))


def running(ctx: Context, namespace: str) -> dict[str, str | GpuctlError]:
    """The probe that runs on every node of the spec: the pod's name by node, or why there is none."""
    wanted = {node.name for node in ctx.spec.nodes}
    able = {str(node["metadata"]["name"]) for node in ctx.kubernetes.nodes() if is_ready(node)} & wanted
    ready, seen = await_pods(ctx, namespace, NAME, able, ctx.deadline(READY_SECONDS, "starting the probe pods"))
    found: dict[str, str | GpuctlError] = {}
    for name in sorted(wanted):
        if name not in able:
            found[name] = GpuctlError(f"{name} is not Ready, so no probe runs there", next="gpuctl status")
        else:
            found[name] = ready[name] if name in ready else _why(name, seen.get(name))
    return found


def await_pods(
    ctx: Context, namespace: str, app: str, nodes: Set[str], deadline: Deadline
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The pods of a daemon set of ours by node, once those on ``nodes`` are Ready: names of the Ready, and all."""
    seen: dict[str, dict[str, Any]] = {}
    ready: dict[str, str] = {}
    for _ in deadline.ticks(0.5):
        pods = ctx.kubernetes.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={app}")
        seen = {str(pod["spec"].get("nodeName")): pod for pod in pods}
        ready = {node: str(pod["metadata"]["name"]) for node, pod in seen.items() if is_ready(pod)}
        ctx.say("progress", f"{len(ready)} of {len(nodes)} {app} pods run", phase="verify", done=len(ready))
        if nodes <= ready.keys():
            break
    return ready, seen


def is_ready(item: Mapping[str, Any]) -> bool:
    """Whether a node or a pod says that it is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", ()))


def _why(node: str, pod: Mapping[str, Any] | None) -> GpuctlError:
    if pod is None:
        return GpuctlError(f"{node} got no probe pod: it is not in the cluster", next="gpuctl status")
    waiting = [
        s["state"]["waiting"].get("reason", "")
        for s in pod.get("status", {}).get("containerStatuses", ())
        if "waiting" in s.get("state", {})
    ]
    return GpuctlError(f"the probe pod on {node} does not run: {', '.join(waiting) or 'its kubelet did not start it'}")


def pod_spec(ctx: Context) -> dict[str, Any]:
    """A pod of the probe image that sleeps, on any node, and goes at once when it is deleted."""
    container = {
        "name": "probe",
        "image": ctx.spec.probe_image,
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    }
    return {
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [container],
    }


def daemon_set(ctx: Context, name: str) -> dict[str, Any]:
    """Such a pod on every node."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(ctx)},
        },
    }
