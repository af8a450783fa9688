"""Probe pods: one on every node, which ping each other and ask the cluster's DNS. They always go away again.

Their namespaces carry the cluster's id as a label; what a killed run left behind is removed by the next one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from gpuctl.context import Context
from gpuctl.render import gpu
from gpuctl.run.errors import GpuctlError
from gpuctl.verify.facts import Probe

# asks the runtime for every card by the environment, the scheduler for none
INTRUDER = "gpuctl-intruder"
# "cards <number>" comes last and only when both have been looked at: silence is not zero. An nvidia-smi that the
# runtime put there may lack its libraries, which hides no device node
# the runtime puts nvidia-smi into /usr/bin, which the image's own PATH need not name
LOOK = """
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
nodes=0; listed=0
for node in /dev/nvidia[0-9]*; do [ ! -e "$node" ] || nodes=$((nodes+1)); done
if command -v nvidia-smi >/dev/null; then
  if said=$(nvidia-smi -L 2>&1); then listed=$(echo "$said" | grep -c "^GPU ")
  elif [ $nodes = 0 ]; then echo "error: nvidia-smi -L: $said"; exit 0
  fi
fi
[ $nodes -ge $listed ] || nodes=$listed
echo "cards $nodes"
"""
INTRUDER_SECONDS = 60.0
READY_SECONDS, EXEC_SECONDS, GONE_SECONDS = 180.0, 180.0, 60.0
LOOKUPS, PINGS = 100, 3
LABEL = "gpuctl.io/verify"
WORKERS = 32
# the pod's addresses come as arguments; every line of the answer is "ping <address> <lost percent>" or "dns <resolved>"
SCRIPT = """
name=$1; shift
for peer in "$@"; do echo $peer; done | xargs -P 16 -n 1 sh -c '
  lost=$(ping -q -c @pings@ -W 2 "$0" 2>/dev/null | sed -n "s/.* \\([0-9]*\\)% packet loss.*/\\1/p")
  echo "ping $0 ${lost:-100}"'
ok=0; i=0
while [ $i -lt @lookups@ ]; do
  timeout 3 nslookup "$name" >/dev/null 2>&1 && ok=$((ok+1))
  i=$((i+1))
done
echo "dns $ok"
""".replace("@pings@", str(PINGS)).replace("@lookups@", str(LOOKUPS))


def observe(ctx: Context) -> dict[str, Probe | GpuctlError]:
    """What the probe pods found, by node name; GpuctlError when they cannot be started at all."""
    with own_namespace(ctx) as namespace:
        if gpu.gpu_nodes(ctx.spec):
            _post_intruders(ctx, namespace)
        pods = start(ctx, namespace)
        here = {name: pod for name, pod in pods.items() if isinstance(pod, str)}
        silent = {name: pod for name, pod in pods.items() if isinstance(pod, GpuctlError)}
        listed = ctx.kubernetes.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector="app=gpuctl-probe")
        address = {
            str(pod["spec"].get("nodeName")): str(pod["status"]["podIP"])
            for pod in listed
            if pod.get("status", {}).get("podIP")
        }
        deadline = ctx.deadline(EXEC_SECONDS, "probing the pod network")

        intruders = _intruders(ctx, namespace) if gpu.gpu_nodes(ctx.spec) else {}

        def cards(node: str) -> int | GpuctlError:
            pod = intruders.get(node, GpuctlError("no pod looks for cards there: it has none"))
            if isinstance(pod, GpuctlError):
                return pod
            try:
                return _count(ctx.kubernetes.exec(namespace, pod, ["sh", "-c", LOOK], deadline=deadline))
            except GpuctlError as error:
                return error

        def one(node: str) -> Probe | GpuctlError:
            peers = {address[peer]: peer for peer in here if peer != node}
            command = ["sh", "-c", SCRIPT, "sh", f"kubernetes.default.svc.{ctx.spec.kubernetes.cluster_domain}", *peers]
            try:
                said = ctx.kubernetes.exec(namespace, here[node], command, deadline=deadline)
                return _read(said, peers, cards(node))
            except GpuctlError as error:
                return error

        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            return {**silent, **dict(zip(here, pool.map(one, here), strict=True))}


def _count(said: str) -> int:
    """The cards that a pod sees, as LOOK printed them; GpuctlError when it did not get that far."""
    word, _, number = (said.strip().splitlines() or [""])[-1].partition(" ")
    if word != "cards" or not number.isdecimal():
        raise GpuctlError("the pod did not say how many cards it sees", cause=said.strip()[-300:])
    return int(number)


def _read(said: str, peers: Mapping[str, str], cards: int | GpuctlError) -> Probe:
    loss, resolved = {}, 0
    for line in said.splitlines():
        word, *rest = line.split()
        if word == "ping" and len(rest) == 2 and rest[0] in peers:
            loss[peers[rest[0]]] = int(rest[1])
        elif word == "dns" and rest:
            resolved = int(rest[0])
    return Probe({peer: loss.get(peer, 100) for peer in peers.values()}, resolved, LOOKUPS, cards)


@contextmanager
def own_namespace(ctx: Context) -> Iterator[str]:
    """A namespace for the block; what a killed run left behind goes first."""
    mark = ctx.workspace.cluster_id
    for left in ctx.kubernetes.list("/api/v1/namespaces", labelSelector=f"{LABEL}={mark}"):
        _remove(ctx, str(left["metadata"]["name"]))
    name = f"gpuctl-verify-{secrets.token_hex(3)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {LABEL: mark}}}
    ctx.kubernetes.post("/api/v1/namespaces", body)
    try:
        yield name
    finally:
        _remove(ctx, name)


def _remove(ctx: Context, name: str) -> None:
    """Delete the namespace and wait for its end; not stopped by an interrupt, which is when it matters."""
    from gpuctl.run.deadline import Deadline

    ctx.kubernetes.delete(f"/api/v1/namespaces/{name}")
    for _ in Deadline.after(GONE_SECONDS, "removing the probe pods").ticks(0.5):
        if not ctx.kubernetes.list("/api/v1/namespaces", fieldSelector=f"metadata.name={name}"):
            return
    ctx.say("warning", f"the namespace {name} of the probes is still terminating; it will go by itself", phase="verify")


def start(ctx: Context, namespace: str) -> dict[str, str | GpuctlError]:
    """A running probe on every node of the spec: the pod's name by node, or why there is none."""
    wanted = {node.name for node in ctx.spec.nodes}
    able = {str(node["metadata"]["name"]) for node in ctx.kubernetes.nodes() if is_ready(node)} & wanted
    ctx.kubernetes.post(f"/apis/apps/v1/namespaces/{namespace}/daemonsets", _daemon_set(ctx, "gpuctl-probe"))
    seen: dict[str, dict[str, Any]] = {}
    running: dict[str, str] = {}
    for _ in ctx.deadline(READY_SECONDS, "starting the probe pods").ticks(0.5):
        pods = ctx.kubernetes.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector="app=gpuctl-probe")
        seen = {str(pod["spec"].get("nodeName")): pod for pod in pods}
        running = {node: str(pod["metadata"]["name"]) for node, pod in seen.items() if _runs(pod)}
        ctx.say("progress", f"{len(running)} of {len(able)} probe pods run", phase="verify", done=len(running))
        if able <= running.keys():
            break
    found: dict[str, str | GpuctlError] = {}
    for name in sorted(wanted):
        if name not in able:
            found[name] = GpuctlError(f"{name} is not Ready, so no probe runs there", next="gpuctl status")
        else:
            found[name] = running[name] if name in running else _why(name, seen.get(name))
    return found


def _post_intruders(ctx: Context, namespace: str) -> None:
    intruder = _daemon_set(ctx, INTRUDER)
    pod = intruder["spec"]["template"]["spec"]
    pod["runtimeClassName"] = gpu.RUNTIME_CLASS
    pod["nodeSelector"] = {"nvidia.com/gpu.present": "true"}
    pod["containers"][0]["env"] = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    ctx.kubernetes.post(f"/apis/apps/v1/namespaces/{namespace}/daemonsets", intruder)


def _intruders(ctx: Context, namespace: str) -> dict[str, str | GpuctlError]:
    """By GPU node: the running pod that asks for every card by its environment, or why there is none."""
    wanted = {node.name for node in gpu.gpu_nodes(ctx.spec)}
    running: dict[str, str] = {}
    for _ in ctx.deadline(INTRUDER_SECONDS, "starting the pods that ask for no GPU").ticks(0.5):
        pods = ctx.kubernetes.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={INTRUDER}")
        running = {str(pod["spec"].get("nodeName")): str(pod["metadata"]["name"]) for pod in pods if _runs(pod)}
        if wanted <= running.keys():
            break
    missing = GpuctlError("no pod runs there under the runtime class nvidia", next="gpuctl gpu")
    return {name: running.get(name, missing) for name in wanted}


def is_ready(item: Mapping[str, Any]) -> bool:
    """Whether a node or a pod says that it is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", ()))


def _runs(pod: Mapping[str, Any]) -> bool:
    return any(s.get("ready") for s in pod.get("status", {}).get("containerStatuses", ()))


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


def _daemon_set(ctx: Context, name: str) -> dict[str, Any]:
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
