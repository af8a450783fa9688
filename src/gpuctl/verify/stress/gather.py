"""The opt-in stress of the cards: one pod a node takes all its cards and runs the tools that its image has.

Cards that somebody holds are left alone: the node is not measured. Written after the tools' documentation; not tried on
real hardware.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, TypeVar

from gpuctl.context import Context
from gpuctl.phases.gpu import observe as offered
from gpuctl.render import gpu
from gpuctl.run.errors import DeadlineExceeded, GpuctlError
from gpuctl.run.workspace import write_private
from gpuctl.spec.resolved import Node
from gpuctl.verify import probes
from gpuctl.verify.stress import COPY_TESTS, DIAG_LEVEL, NCCL_SECONDS, Run, Stress, of_all, tools, whole

T = TypeVar("T")

# the first pull of an image of this kind is what takes long; an unschedulable pod is known at once
READY_SECONDS, SCHEDULE_SECONDS, ASK_SECONDS = 1800.0, 30.0, 30.0
COPY_SECONDS, DIAG_SECONDS, BETWEEN_SECONDS = 300.0, 2700.0, 180.0
SAMPLE_SECONDS, LOOK_EVERY = 1, 2.0
RENDEZVOUS_PORT = 29500
LINK_QUERY = "uuid,pcie.link.gen.current,pcie.link.width.current"
SLOWDOWNS = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")
SLOWDOWN_QUERY = ",".join(["uuid", *(f"clocks_event_reasons.{name}" for name in SLOWDOWNS)])


def observe(ctx: Context) -> dict[str, Stress | GpuctlError]:
    """By node. GpuctlError: no image is named, or the pods cannot be made."""
    if not ctx.spec.stress_image:
        raise GpuctlError(
            "the spec names no stress_image, so no tool can run", next="gpuctl explain stress_image; then set it"
        )
    nodes = whole(ctx.spec)
    with probes.own_namespace(ctx) as namespace:
        for node in nodes:
            ctx.kubernetes.post(f"/api/v1/namespaces/{namespace}/pods", _pod(ctx, node))
        started = {node.name: _started(ctx, namespace, node) for node in nodes}
        ready = [node for node in nodes if not isinstance(started[node.name], GpuctlError)]
        with ThreadPoolExecutor(max_workers=max(1, len(ready))) as pool:
            alone = dict(zip(ready, pool.map(lambda node: _Pod(ctx, namespace, node).stress(), ready), strict=True))
        # after the rest: it loads two nodes at a time
        between = _between(ctx, namespace, ready, {n.name: str(started[n.name]) for n in ready})
        found: dict[str, Stress | GpuctlError] = {}
        for node in nodes:
            error = started[node.name]
            if isinstance(error, GpuctlError):
                found[node.name] = error
            else:
                baseline = _baseline(ctx, node, alone[node].runs)
                found[node.name] = replace(alone[node], between=between[node.name], baseline=baseline)
    return found


def _started(ctx: Context, namespace: str, node: Node) -> str | GpuctlError:
    """The pod's address once it runs; why it does not."""
    deadline = ctx.deadline(READY_SECONDS, f"starting the stress pod on {node.name}")
    scheduling = deadline.within(SCHEDULE_SECONDS, "scheduling")
    pod: dict[str, Any] = {}
    try:
        for _ in deadline.ticks(LOOK_EVERY):
            pod = ctx.kubernetes.get(f"/api/v1/namespaces/{namespace}/pods/{node.name}")
            if probes.is_ready(pod):
                return str(pod["status"]["podIP"])
            if not pod["spec"].get("nodeName") and scheduling.expired:
                offer = offered.offers(ctx).get(node.name)
                holders = offer.holders if offer else ""
                what = f"its cards are held by {holders}" if holders else "it does not offer all its cards"
                return GpuctlError(what, next="gpuctl verify --gpu-stress, when the cards are free")
            waiting = [
                s["state"]["waiting"] for s in pod["status"].get("containerStatuses", ()) if "waiting" in s["state"]
            ]
            if waiting and waiting[0].get("reason") in ("ImagePullBackOff", "InvalidImageName", "CreateContainerError"):
                break
    except GpuctlError as error:
        return error
    waits = [s["state"].get("waiting", {}) for s in pod.get("status", {}).get("containerStatuses", ())]
    why = ", ".join(f"{w.get('reason', '')} {w.get('message', '')}".strip() for w in waits) or "it did not start"
    return GpuctlError(f"the stress pod does not run: {why}", next=f"kubectl describe pod on {node.name}; stress_image")


@dataclass(frozen=True)
class _Pod:
    """A stress pod that runs. ``folder``: where notes are kept inside it."""

    ctx: Context
    namespace: str
    node: Node
    folder: str = "/tmp"

    def stress(self) -> Stress:
        """Everything that one node shows by itself."""
        pairs = self._read("topology", "nvidia-smi topo -m", ASK_SECONDS, tools.topology)
        # samples while everything else runs
        self._sample()
        copied, links = self._copies()
        runs = self._runs(pairs)
        script = f"nv-hostengine >/dev/null 2>&1; sleep 2; dcgmi diag -r {DIAG_LEVEL} -j"
        diagnosed = self._read(
            "dcgmi", f"command -v dcgmi >/dev/null || exit 127; {script}", DIAG_SECONDS, tools.diagnoses
        )
        slowdowns = self._read("slowdowns", f"cat {self.folder}/slowdowns", ASK_SECONDS, tools.throttling)
        return Stress(pairs, copied, links, runs, diagnosed, slowdowns, {}, None)

    def _sample(self) -> None:
        """Note slowdowns every second until the pod goes; without it the reading finds nothing and says so."""
        query = f"nvidia-smi --query-gpu={SLOWDOWN_QUERY} --format=csv,noheader"
        line = f'while :; do {query} | sed "s/^/$(date +%s), /"; sleep {SAMPLE_SECONDS}; done'
        where = f"{self.folder}/slowdowns"
        with suppress(GpuctlError):
            self._exec(
                f"setsid sh -c {shlex.quote(line)} >{where} 2>&1 </dev/null & echo $! >{where}.group", ASK_SECONDS
            )

    def _copies(self) -> tuple[dict[str, tuple[float, ...]] | GpuctlError, dict[str, tools.Link] | GpuctlError]:
        tests = " ".join(COPY_TESTS)
        sample = f"nvidia-smi --query-gpu={LINK_QUERY} --format=csv,noheader"
        script = (
            "command -v nvbandwidth >/dev/null || exit 127\n"
            f"nvbandwidth -j -t {tests} >{self.folder}/copies 2>&1 & tool=$!\n"
            f"while kill -0 $tool 2>/dev/null; do {sample}; sleep 0.5; done >{self.folder}/links 2>&1\n"
            f"wait $tool; cat {self.folder}/copies"
        )
        copied = self._read("nvbandwidth", script, COPY_SECONDS, tools.copies)
        if isinstance(copied, GpuctlError):
            return copied, GpuctlError(f"no load to see the link under: {copied.what}")
        return copied, self._read("links", f"cat {self.folder}/links", ASK_SECONDS, tools.links)

    def _runs(self, pairs: Mapping[tuple[int, int], str] | GpuctlError) -> tuple[Run, ...] | GpuctlError:
        """Each bridged pair, then all cards together."""
        if isinstance(pairs, GpuctlError):
            return GpuctlError(f"the cards' connections are not known: {pairs.what}")
        count = _count(self.node)
        groups: list[tuple[int, ...]] = [pair for pair, how in pairs.items() if how.startswith("NV")]
        if count > 2 or (count == 2 and not groups):
            groups.append(tuple(range(count)))
        runs = []
        for cards in groups:
            visible = ",".join(map(str, cards))
            script = (
                "tool=$(command -v all_reduce_perf || command -v all_reduce_perf_mpi) || exit 127\n"
                f"CUDA_VISIBLE_DEVICES={visible} $tool -b 64M -e 8G -f 2 -g {len(cards)}"
            )
            try:
                runs.append(Run(cards, True, self._tool("all_reduce_perf", script, NCCL_SECONDS, tools.reduction)))
            except DeadlineExceeded:
                runs.append(Run(cards, False, None))
            except GpuctlError as error:
                return error
        return tuple(runs)

    def _read(self, name: str, script: str, seconds: float, parse: Callable[[str], T]) -> T | GpuctlError:
        try:
            return self._tool(name, script, seconds, parse)
        except GpuctlError as error:
            return error

    def _tool(self, name: str, script: str, seconds: float, parse: Callable[[str], T]) -> T:
        """What it printed, read. It runs in the background of the pod: it takes longer than a connection should."""
        where = f"{self.folder}/run-{name}"
        inner = f"( {script}\n); echo $? >{where}.code"
        self.ctx.say("progress", f"{name} on {self.node.name}", phase="verify")
        # its own process group, so that it ends with all its children
        self._exec(
            f"rm -f {where}.code; setsid sh -c {shlex.quote(inner)} >{where} 2>&1 </dev/null & echo $! >{where}.group",
            ASK_SECONDS,
        )
        deadline = self.ctx.deadline(seconds, f"{name} on {self.node.name}")
        code = ""
        for _ in deadline.ticks(LOOK_EVERY):
            if code := self._exec(f"[ ! -e {where}.code ] || cat {where}.code", ASK_SECONDS).strip():
                break
        if not code:
            # it may just have ended by itself
            self._exec(f"kill -9 -$(cat {where}.group) 2>/dev/null || true", ASK_SECONDS)
            deadline.check(where=f"node {self.node.name}")
        said = self._exec(f"cat {where}", ASK_SECONDS)
        if code == "127":
            raise GpuctlError(f"the stress_image has no {name}")
        try:
            return parse(said)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise GpuctlError(f"{name}: {error}", where=f"node {self.node.name}", cause=said[-500:]) from error

    def _exec(self, script: str, seconds: float) -> str:
        deadline = self.ctx.deadline(seconds, f"asking the stress pod on {self.node.name}")
        try:
            return self.ctx.kubernetes.exec(self.namespace, self.node.name, ["sh", "-c", script], deadline=deadline)
        except DeadlineExceeded as error:
            raise GpuctlError(error.what, where=error.where) from error  # ours is late, not the tool


def _between(
    ctx: Context, namespace: str, nodes: list[Node], addresses: Mapping[str, str]
) -> dict[str, Mapping[str, tools.Reduction] | GpuctlError]:
    """Each node with the next one, two at a time; by the first of the two."""
    source = (files("gpuctl.verify.stress") / "on_cards.py").read_text(encoding="utf-8")
    found: dict[str, Mapping[str, tools.Reduction] | GpuctlError] = {}
    for number, node in enumerate(nodes):
        peer = nodes[(number + 1) % len(nodes)]
        if peer is node:
            found[node.name] = GpuctlError("no other node's cards are free")
            continue
        rendezvous = f"{addresses[node.name]} {RENDEZVOUS_PORT + number}"

        def one(rank: int, node: Node, rendezvous: str = rendezvous) -> tools.Reduction | GpuctlError:
            script = (
                'python3 -c "import torch" 2>/dev/null || exit 127\n'
                f"NCCL_SOCKET_IFNAME=eth0 CUDA_VISIBLE_DEVICES=0 python3 -c {shlex.quote(source)} {rank} 2 {rendezvous}"
            )
            return _Pod(ctx, namespace, node)._read("PyTorch", script, BETWEEN_SECONDS, _last_json)

        with ThreadPoolExecutor(max_workers=2) as pool:
            first, second = pool.map(one, (0, 1), (node, peer))
        said = second if isinstance(second, GpuctlError) and not isinstance(first, GpuctlError) else first
        found[node.name] = said if isinstance(said, GpuctlError) else {peer.name: said}
    return found


def _last_json(text: str) -> tools.Reduction:
    said = json.loads((text.strip().splitlines() or [""])[-1])
    return tools.Reduction(float(said["bus"]), int(said["wrong"]))


def _baseline(ctx: Context, node: Node, runs: tuple[Run, ...] | GpuctlError) -> float | None:
    """The first one that was measured here is kept in the workspace; None when there was none before."""
    path = ctx.workspace.root / "nccl-baseline.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    before = known.get(node.name)
    bus = None if isinstance(runs, GpuctlError) else of_all(runs, _count(node))
    if before is None and bus is not None:
        write_private(path, json.dumps({**known, node.name: bus}) + "\n")
    return None if before is None else float(before)


def _count(node: Node) -> int:
    return node.gpus.count if node.gpus else 0


def _pod(ctx: Context, node: Node) -> dict[str, Any]:
    spec = probes.pod_spec(ctx)
    (container,) = spec["containers"]
    container |= {
        "name": "stress",
        "image": ctx.spec.stress_image,
        "command": ["sleep", "7200"],
        "resources": {"limits": {"nvidia.com/gpu": str(_count(node))}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    spec |= {
        "runtimeClassName": gpu.RUNTIME_CLASS,
        "nodeSelector": {"kubernetes.io/hostname": node.name},
        "restartPolicy": "Never",
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": node.name}, "spec": spec}
