"""Storage classes as they are, and volumes of each class: made, written by one pod, read by another, removed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpuctl.context import Context
from gpuctl.phases import workloads
from gpuctl.render import storage
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError
from gpuctl.verify import probes
from gpuctl.verify.facts import Storage, Volume

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
VOLUMES = "/api/v1/persistentvolumes"
VOLUME_SECONDS, GONE_SECONDS = 75.0, 60.0
SIZE = "16Mi"
# as notebooks do, not as root: a server that squashes root, or a folder of root's, shows
USER = {"runAsUser": 1000, "runAsGroup": 100, "fsGroup": 100}
WRITE = "dd if=/dev/urandom of=/data/blob bs=1M count=4 2>/dev/null && sync && sha256sum /data/blob"
READ = "sha256sum /data/blob"


def observe(ctx: Context) -> Storage:
    """The classes."""
    return Storage(tuple(ctx.kubernetes.list(CLASSES)))


def volumes(ctx: Context, namespace: str) -> dict[str, Volume | GpuctlError]:
    """A volume of every class of the spec, by class."""
    able = {str(node["metadata"]["name"]) for node in ctx.kubernetes.nodes() if probes.is_ready(node)}

    def one(wanted: Mapping[str, Any]) -> Volume | GpuctlError:
        try:
            return _try(ctx, namespace, wanted, able)
        except GpuctlError as error:
            return error

    classes = storage.classes(ctx.spec).values["classes"]
    with ThreadPoolExecutor(max_workers=len(classes)) as pool:
        return {str(c["name"]): found for c, found in zip(classes, pool.map(one, classes), strict=True)}


def _try(ctx: Context, namespace: str, wanted: Mapping[str, Any], able: set[str]) -> Volume:
    name = f"volume-{wanted['name']}"
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    shared = wanted["provisioner"] != storage.LOCAL_PROVISIONER
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": wanted["name"],
            "accessModes": ["ReadWriteMany" if shared else "ReadWriteOnce"],
            "resources": {"requests": {"storage": SIZE}},
        },
    }
    deadline = ctx.deadline(VOLUME_SECONDS, f"a volume of the class {wanted['name']}")
    began = time.monotonic()
    try:
        ctx.kubernetes.post(claims, claim)
        writer, written = _run(ctx, namespace, f"{name}-write", name, WRITE, deadline)
        elsewhere = sorted(able - {writer}) if shared else []
        reader, read = _run(ctx, namespace, f"{name}-read", name, READ, deadline, among=elsewhere)
        took = time.monotonic() - began
    finally:
        _remove(ctx, namespace, claims, name)
    ctx.say("progress", f"a volume of {wanted['name']} was written and read", phase="verify")
    return Volume(took, written, read, writer, reader)


def _run(
    ctx: Context,
    namespace: str,
    pod: str,
    claim: str,
    script: str,
    deadline: Deadline,
    among: list[str] | None = None,
) -> tuple[str, str]:
    """(node, first word of the output) of a script in a pod with the volume at /data; on one of ``among``, if any."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = probes.pod_spec(ctx)
    container = {**spec["containers"][0], "command": ["sh", "-c", script]}
    container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    spec |= {
        "containers": [container],
        "restartPolicy": "Never",
        "securityContext": USER,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
    if among:
        terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": among}]}]
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        }
    ctx.kubernetes.post(path, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec})
    state: dict[str, Any] = {}
    for _ in deadline.ticks(0.5):
        state = ctx.kubernetes.get(f"{path}/{pod}")
        if state["status"].get("phase") in ("Succeeded", "Failed"):
            break
    said = ""
    if state["status"].get("phase") == "Succeeded":
        said = str(ctx.kubernetes.get(f"{path}/{pod}/log")).split(" ")[0].strip()
        return str(state["spec"]["nodeName"]), said
    if state["status"].get("phase") == "Failed":
        said = str(ctx.kubernetes.get(f"{path}/{pod}/log")).strip()[-300:]
        raise GpuctlError(
            f"a pod cannot {'read' if script == READ else 'write'} its volume", where=f"pod {pod}", cause=said
        )
    about = [line for name in (claim, pod) for line in workloads.events(ctx, namespace, name)]
    raise GpuctlError(
        f"not usable within {deadline.seconds:.0f} s",
        where=f"claim {claim}, pod {pod}",
        cause="\n".join(about),
        next="kubectl get storageclass,pv; the provisioner's pods in kube-system and local-storage",
    )


def discard(ctx: Context, claim: Mapping[str, Any]) -> str:
    """Let the claim's volume go with it, also where the class would retain it; its name, "" when there is none."""
    volume = str(claim["spec"].get("volumeName", ""))
    if volume:
        ctx.kubernetes.patch(f"{VOLUMES}/{volume}", {"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
    return volume


def _remove(ctx: Context, namespace: str, claims: str, name: str) -> None:
    """The pods, then the claim, then what it stood for, also where the class would retain it."""
    for suffix in ("write", "read"):
        ctx.kubernetes.delete(f"/api/v1/namespaces/{namespace}/pods/{name}-{suffix}")
    claim = ctx.kubernetes.find(f"{claims}/{name}")
    volume = discard(ctx, claim) if claim else ""
    ctx.kubernetes.delete(f"{claims}/{name}")
    if volume:
        gone = Deadline.after(GONE_SECONDS, f"removing the volume {volume}")
        if not gone.until(lambda: ctx.kubernetes.find(f"{VOLUMES}/{volume}") is None):
            ctx.say("warning", f"the volume {volume} of a test is still there", phase="verify")
