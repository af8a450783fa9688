"""Pods that ask the container runtime for every card by the environment, and the scheduler for none."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from gpuctl.context import Context
from gpuctl.render import gpu
from gpuctl.run.errors import GpuctlError
from gpuctl.verify import probes

NAME = "gpuctl-intruder"
# "cards <number>" comes last and only when both have been looked at: silence is not zero. The runtime puts nvidia-smi
# into /usr/bin, which the image's own PATH need not name; it may lack its libraries, which hides no device node
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
READY_SECONDS, EXEC_SECONDS = 60.0, 60.0
WORKERS = 32


def post(ctx: Context, namespace: str) -> None:
    """Ask for one on every node with GPUs."""
    daemon_set = probes.daemon_set(ctx, NAME)
    pod = daemon_set["spec"]["template"]["spec"]
    pod["runtimeClassName"] = gpu.RUNTIME_CLASS
    pod["nodeSelector"] = {"nvidia.com/gpu.present": "true"}
    pod["containers"][0]["env"] = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    ctx.kubernetes.post(f"/apis/apps/v1/namespaces/{namespace}/daemonsets", daemon_set)


def observe(ctx: Context, namespace: str, running: Mapping[str, str | GpuctlError]) -> dict[str, int | GpuctlError]:
    """By GPU node: how many cards such a pod sees, or why that is not known. ``running``: the probe of each node."""
    wanted = sorted(node.name for node in gpu.gpu_nodes(ctx.spec))
    able = {name for name in wanted if isinstance(running.get(name), str)}
    waiting = ctx.deadline(READY_SECONDS, "starting the pods that ask for no GPU")
    pods, _ = probes.await_pods(ctx, namespace, NAME, able, waiting)
    deadline = ctx.deadline(EXEC_SECONDS, "counting the cards that pods see")

    def one(node: str) -> int | GpuctlError:
        probe = running.get(node)
        if isinstance(probe, GpuctlError):
            return probe
        if node not in pods:
            return GpuctlError("no pod runs there under the runtime class nvidia", next="gpuctl gpu")
        try:
            return count(ctx.kubernetes.exec(namespace, pods[node], ["sh", "-c", LOOK], deadline=deadline))
        except GpuctlError as error:
            return error

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        return dict(zip(wanted, pool.map(one, wanted), strict=True))


def count(said: str) -> int:
    """The cards that a pod sees, as LOOK printed them; GpuctlError when it did not get that far."""
    word, _, number = (said.strip().splitlines() or [""])[-1].partition(" ")
    if word != "cards" or not number.isdecimal():
        raise GpuctlError("the pod did not say how many cards it sees", cause=said.strip()[-300:])
    return int(number)
