"""How long a new pod takes to be Ready when its image is on the node already."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from gpuctl.context import Context
from gpuctl.run.errors import GpuctlError
from gpuctl.verify import probes

# few at a time: it is one pod's way that is measured, not what the cluster bears
NODES_AT_ONCE = 8
# a single hiccup says nothing of a node: the slow get a second try
SOON_SECONDS, TRIES = 5.0, 2
READY_SECONDS, LOOK_EVERY = 60.0, 0.05


def observe(
    ctx: Context, namespace: str, running: Mapping[str, str | GpuctlError]
) -> dict[str, tuple[float, ...] | GpuctlError]:
    """Seconds from the request to Ready, as seen from here (to within LOOK_EVERY), by node.

    ``running``: the probe pod of each node, which has brought the image. One node in NODES_AT_ONCE at the same time.
    """

    def one(node: str) -> tuple[float, ...] | GpuctlError:
        probe = running[node]
        if isinstance(probe, GpuctlError):
            return probe
        took: list[float] = []
        try:
            while len(took) < TRIES and all(seconds > SOON_SECONDS for seconds in took):
                took.append(_start(ctx, namespace, node, f"start-{node}-{len(took)}"))
        except GpuctlError as error:
            return error
        return tuple(took)

    with ThreadPoolExecutor(max_workers=1 + len(running) // NODES_AT_ONCE) as pool:
        found = dict(zip(running, pool.map(one, running), strict=True))
    ctx.say("progress", "new pods were started on every node", phase="verify")
    return found


def _start(ctx: Context, namespace: str, node: str, name: str) -> float:
    path = f"/api/v1/namespaces/{namespace}/pods"
    # through the scheduler, as any pod
    spec = {**probes.pod_spec(ctx), "nodeSelector": {"kubernetes.io/hostname": node}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    deadline = ctx.deadline(READY_SECONDS, f"starting a pod on {node}")
    began = time.monotonic()
    ctx.kubernetes.post(path, body)
    for _ in deadline.ticks(LOOK_EVERY):
        if probes.is_ready(ctx.kubernetes.get(f"{path}/{name}")):
            took = time.monotonic() - began
            ctx.kubernetes.delete(f"{path}/{name}")
            return took
    raise GpuctlError(
        f"a new pod on {node} was not Ready within {READY_SECONDS:.0f} s", next="kubectl get events -A; gpuctl status"
    )
