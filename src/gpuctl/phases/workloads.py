"""What runs, or why it does not: workloads that are not ready, pods in trouble with their last events."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuctl.context import Context
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError

WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet")
# what does not pass by itself; a pull that fails once may pass, so it must last
TROUBLES = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
TROUBLE_SECONDS = 60.0
EVENTS = 3


@dataclass(frozen=True)
class Trouble:
    """A pod that does not get on: ``reason`` as the kubelet calls it."""

    pod: str
    node: str
    reason: str
    message: str
    container: str


def objects(manifest: str) -> list[dict[str, Any]]:
    """The objects of a rendered manifest."""
    import yaml

    return [item for item in yaml.load_all(manifest, Loader=yaml.CSafeLoader) if isinstance(item, dict)]


def unready(ctx: Context, wanted: Iterable[Mapping[str, Any]], namespace: str) -> list[str]:
    """The workloads among these objects that are not rolled out, as ``Deployment hub 0 of 1``."""
    found = []
    for item in wanted:
        if item["kind"] in WORKLOADS:
            live = ctx.kubernetes.get(ctx.kubernetes.path_of(item, namespace))
            if said := behind(live):
                found.append(f"{item['kind']} {item['metadata']['name']} {said}")
    return found


def behind(live: Mapping[str, Any]) -> str:
    """How far a Deployment, DaemonSet or StatefulSet is rolled out, as ``0 of 1``; "" when it is."""
    status, spec = live.get("status") or {}, live["spec"]
    if status.get("observedGeneration", 0) < live["metadata"]["generation"]:
        return "not seen by its controller yet"
    if live["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        ready = min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0))
    else:
        wanted = spec.get("replicas", 1)
        ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
    return "" if ready >= wanted else f"{ready} of {wanted}"


def troubles(pods: Iterable[Mapping[str, Any]]) -> Iterator[Trouble]:
    """The pods that wait for a reason that does not pass by itself."""
    for pod in pods:
        status = pod.get("status") or {}
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in TROUBLES:
                last = ((container.get("lastState") or {}).get("terminated") or {}).get("message", "")
                yield Trouble(
                    str(pod["metadata"]["name"]),
                    str(pod["spec"].get("nodeName", "")),
                    str(waiting["reason"]),
                    str(waiting.get("message") or last),
                    str(container.get("name", "")),
                )
                break


def events(ctx: Context, namespace: str, pod: str) -> list[str]:
    """The newest events of a pod, oldest first."""
    found = ctx.kubernetes.list(f"/api/v1/namespaces/{namespace}/events", fieldSelector=f"involvedObject.name={pod}")
    found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [
        f"{event.get('reason', '')}: {' '.join(str(event.get('message', '')).split())}" for event in found[-EVENTS:]
    ]


class Watch:
    """Notices trouble in a namespace that lasts; shared by everything that waits for pods there.

    ``background``: components (label ``component``) whose trouble is not its business.
    """

    def __init__(self, ctx: Context, phase: str, namespace: str, background: Sequence[str] = ()) -> None:
        self._ctx, self._phase, self._namespace = ctx, phase, namespace
        self._query = {"labelSelector": f"component notin ({','.join(background)})"} if background else {}
        self._since: dict[tuple[str, str], float] = {}

    def look(self) -> None:
        """Raise GpuctlError for a pod that has been in the same trouble for TROUBLE_SECONDS."""
        now = time.monotonic()
        pods = self._ctx.kubernetes.list(f"/api/v1/namespaces/{self._namespace}/pods", **self._query)
        seen = {(trouble.pod, _family(trouble.reason)): trouble for trouble in troubles(pods)}
        for key, trouble in seen.items():
            if key not in self._since:
                where = f"pod/{trouble.pod}"
                self._ctx.say("target", f"{trouble.reason} on {trouble.node}", phase=self._phase, target=where)
        self._since = {key: self._since.get(key, now) for key in seen}
        for key, since in self._since.items():
            if now - since > TROUBLE_SECONDS * self._ctx.patience:
                raise self.error(seen[key])

    def error(self, trouble: Trouble) -> GpuctlError:
        """The pod, its reason and its last events."""
        path = f"/api/v1/namespaces/{self._namespace}/pods/{trouble.pod}/log"
        said = [trouble.message, *events(self._ctx, self._namespace, trouble.pod)]
        if trouble.container and trouble.reason == "CrashLoopBackOff":
            log = self._ctx.kubernetes.get(path, container=trouble.container, previous="true", tailLines=EVENTS)
            said += [f"log: {line}" for line in str(log).splitlines()]
        return GpuctlError(
            f"{trouble.pod} does not start: {trouble.reason}",
            where=f"pod {self._namespace}/{trouble.pod} on {trouble.node}",
            cause="\n".join(line for line in said if line),
            next=f"kubectl -n {self._namespace} describe pod {trouble.pod}; then run the same command again",
        )

    def expired(self, deadline: Deadline, waiting_for: Iterable[str]) -> GpuctlError:
        """Out of time: what is missing, and the first pods and claims in trouble with their events."""
        pods = self._ctx.kubernetes.list(f"/api/v1/namespaces/{self._namespace}/pods", **self._query)
        unready_pods = [pod for pod in pods if not _is_ready(pod)]
        names = [str(pod["metadata"]["name"]) for pod in unready_pods[:3]]
        claims = self._ctx.kubernetes.list(f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims")
        names += [str(claim["metadata"]["name"]) for claim in claims if claim["status"].get("phase") == "Pending"][:3]
        said = [f"{name}: {line}" for name in names for line in events(self._ctx, self._namespace, name)]
        return GpuctlError(
            f"{deadline.what}: not done within {deadline.seconds:.0f} s",
            where=f"namespace {self._namespace}",
            cause="\n".join([*waiting_for, *said]),
            next=f"kubectl -n {self._namespace} get pods,events; then run the same command again",
        )


def _family(reason: str) -> str:
    """Reasons that take turns are one trouble."""
    return "image" if "Image" in reason else reason


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions", ())
    return pod["status"].get("phase") == "Succeeded" or any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )
