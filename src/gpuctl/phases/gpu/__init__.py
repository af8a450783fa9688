"""gpu: the GPU Operator, the runtime in K3s' containerd, and a proof by CUDA of every card.

Done when every node offers what the spec says and every card is proven since its boot and driver last changed; cards
that pods hold are reported, never taken away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gpuctl.context import Context
from gpuctl.phases import releases, workloads
from gpuctl.phases.base import Change, Plan
from gpuctl.phases.gpu import observe, proof
from gpuctl.phases.gpu.observe import Host, Offer
from gpuctl.render import gpu
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node

# the driver container builds a kernel module the first time: 5 to 20 minutes
DRIVER_SECONDS = 2400.0
OFFER_SECONDS = 600.0
# with the Operator ready, what has not come by then will not: a card is broken
STEADY_SECONDS = 60.0
RESTART_SECONDS = 180.0
POLICY = "/apis/nvidia.com/v1/clusterpolicies/cluster-policy"


# systemd tries again by itself (Restart=always), so a first failure is not the end: seen in the lab, cause not found
RESTART = """
systemctl restart {unit} && exit
journalctl --unit={unit} --output=cat --lines=15
for try in $(seq 20); do sleep 3; systemctl --quiet is-active {unit} && exit; done
journalctl --unit={unit} --output=cat --lines=15; exit 1
"""


@dataclass(frozen=True)
class Payload:
    """``step`` of the release, labels to set by node, nodes whose K3s must learn the runtime or with cards to prove."""

    step: releases.Step | None
    labels: Mapping[str, Mapping[str, str | None]]
    restart: tuple[Node, ...]
    prove: tuple[Node, ...]


class Gpu:
    """The third phase."""

    name = "gpu"
    title = "GPU Operator, every card proven by CUDA"

    def plan(self, ctx: Context) -> Plan:
        if not ctx.workspace.kubeconfig.exists():
            return Plan(self.name, unknown="after bootstrap: there is no cluster yet")
        nodes = gpu.gpu_nodes(ctx.spec)
        step = None
        if not ctx.spec.by_fleet("gpu-operator") or not owned_by_fleet(ctx):
            # Fleet itself comes later: gpuctl installs the operator, gitops adopt gives it away
            step = releases.plan(ctx, gpu.CHART, gpu.NAMESPACE, gpu.release(ctx.spec))
        changes = [step.change] if step else []
        if not nodes:
            return Plan(self.name, tuple(changes), payload=Payload(step, {}, (), ()), notes=("no node has a GPU",))
        hosts, offers = reached(observe.hosts(ctx)), observe.offers(ctx)
        restart, prove, notes = [], [], []
        labels: dict[str, Mapping[str, str | None]] = {}
        for node in nodes:
            host, offer = hosts[node.name], offers.get(node.name)
            if different := gpu.label_changes(node, offer.labels if offer else {}):
                _refuse_held(node, offer, different)
                labels[node.name] = different
                words = ", ".join(f"{key}={value}" if value else f"{key} removed" for key, value in different.items())
                price = "the device plugin restarts; pods with GPUs go on"
                changes.append(Change(f"node/{node.name}", "update", words, (node.source,), disruption=price))
            if not host.runtime:
                restart.append(node)
                changes.append(
                    Change(
                        f"host/{node.name}",
                        "restart",
                        "K3s learns the NVIDIA runtime",
                        (node.source,),
                        disruption="the kubelet restarts, pods go on",
                    )
                )
            problem = observe.layer(node, host, offer, gpu.offered(ctx.spec, node))
            new = not host.cards or not host.runtime or offer is None
            if new or (offer is not None and not problem and proof.possible(host, offer)):
                prove.append(node)
                count = _count(node) if new or offer is None else len(proof.unproven(host, offer))
                changes.append(Change(f"cards/{node.name}", "update", f"prove {count} by CUDA", (node.source,)))
            elif problem:
                changes.append(Change(f"cards/{node.name}", "update", problem, (node.source,)))
                prove.append(node)
            elif offer is not None and (left := proof.unproven(host, offer)):
                notes.append(f"{node.name}: {len(left)} cards not proven, held by {offer.holders}")
        return Plan(
            self.name,
            tuple(changes),
            payload=Payload(step, labels, tuple(restart), tuple(prove)),
            notes=tuple(notes)
            if notes or changes
            else (f"{sum(_count(n) for n in nodes)} cards observed, all proven",),
        )

    def apply(self, ctx: Context, plan: Plan) -> None:
        payload: Payload = plan.payload
        if payload.step:
            releases.apply(ctx, self.name, payload.step)
        wanted = gpu.release(ctx.spec)
        if wanted is None:
            return
        for name, different in payload.labels.items():
            ctx.kubernetes.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": dict(different)}})
            ctx.say("target", "labelled", phase=self.name, target=f"node/{name}")
        watch = workloads.Watch(ctx, self.name, gpu.NAMESPACE)
        if payload.restart:
            self._toolkit(ctx, watch, payload.restart)
            with ThreadPoolExecutor(max_workers=len(payload.restart)) as pool:
                list(pool.map(lambda node: self._restart(ctx, node), payload.restart))
        releases.wait(ctx, self.name, wanted)
        self._offered(ctx, watch)
        # what was free when it was planned may be held by now
        hosts, offers = reached(observe.hosts(ctx)), observe.offers(ctx)
        ready = [node for node in payload.prove if proof.possible(hosts[node.name], offers[node.name])]
        if ready:
            proof.run(ctx, self.name, ready, hosts, offers)

    def _toolkit(self, ctx: Context, watch: workloads.Watch, nodes: tuple[Node, ...]) -> None:
        """Until the Operator has put driver and runtime on these hosts."""
        deadline = ctx.deadline(DRIVER_SECONDS, "waiting for the GPU driver and runtime on the hosts")
        names = {node.name for node in nodes}
        for _ in deadline.ticks(2.0):
            hosts = {name: host for name, host in observe.hosts(ctx).items() if name in names}
            done = sorted(name for name, host in hosts.items() if isinstance(host, Host) and host.toolkit)
            self._progress(ctx, "hosts have driver and runtime", done, sorted(names))
            if len(done) == len(nodes):
                return
            watch.look()
        raise watch.expired(deadline, layers(ctx))

    def _restart(self, ctx: Context, node: Node) -> None:
        unit = "k3s" if node.is_server else "k3s-agent"
        deadline = ctx.deadline(RESTART_SECONDS, f"restarting {unit} on {node.name}")
        done = ctx.ssh.run(node, RESTART.format(unit=unit), deadline=deadline)
        if done.stdout:
            ctx.say("log", f"{node.name}: {unit} did not come up at once:\n{done.stdout}", phase=self.name)
        if done.code:
            raise GpuctlError(
                f"{node.name}: {unit} did not restart",
                where=f"host {node.name}, {unit}.service",
                cause="\n".join([done.stderr.strip(), *done.stdout.splitlines()[-8:]]),
                next=f"journalctl -u {unit} on {node.name}; then run the same command again",
            )
        ctx.say("target", "K3s knows the NVIDIA runtime", phase=self.name, target=f"host/{node.name}")

    def _offered(self, ctx: Context, watch: workloads.Watch) -> None:
        """Until the Operator calls itself ready and every node offers what the spec says."""
        nodes = gpu.gpu_nodes(ctx.spec)
        deadline = ctx.deadline(OFFER_SECONDS, "waiting for the nodes to offer their GPUs")
        steady: tuple[Deadline, int] | None = None
        for _ in deadline.ticks(2.0):
            state = policy_state(ctx)
            offers = observe.offers(ctx)
            done = [node for node in nodes if _complete(node, offers.get(node.name), gpu.offered(ctx.spec, node))]
            what = "nodes offer their GPUs" + ("" if state == "ready" else ", the GPU Operator is not ready yet")
            self._progress(ctx, what, [node.name for node in done], [node.name for node in nodes])
            if len(done) == len(nodes) and state == "ready":
                return
            watch.look()
            if state != "ready" or steady is None or steady[1] != len(done):
                steady = deadline.within(STEADY_SECONDS, "waiting for the last GPUs"), len(done)
            elif steady[0].expired and (problems := layers(ctx)):
                raise GpuctlError(
                    f"{len(nodes) - len(done)} nodes do not offer the GPUs of the spec",
                    where=", ".join(node.name for node in nodes if node not in done),
                    cause="\n".join(problems),
                    next="gpuctl verify --only gpu shows the cards' health; then run the same command again",
                )
        raise watch.expired(deadline, layers(ctx))

    def _progress(self, ctx: Context, what: str, done: Sequence[str], wanted: Sequence[str]) -> None:
        left = [name for name in wanted if name not in done]
        # who is late is worth a look; everybody at the beginning is not
        words = f"{what}; waiting for {', '.join(left)}" if done and left else what
        said = f"{len(done)} of {len(wanted)} {words}"
        ctx.say("progress", said, phase=self.name, done=len(done), total=len(wanted))


def owned_by_fleet(ctx: Context) -> bool:
    """Whether the operator was given to Fleet."""
    installed = ctx.helm.installed().get(f"{gpu.NAMESPACE}/{gpu.CHART}")
    return installed is not None and bool(installed.bundle)


def _count(node: Node) -> int:
    return node.gpus.count if node.gpus else 0


def _complete(node: Node, offer: Offer | None, wanted: Mapping[str, int]) -> bool:
    if offer is None or observe.mig_state(node, offer) not in ("", "success"):
        return False
    return all(offer.allocatable.get(name) == count for name, count in wanted.items())


def _refuse_held(node: Node, offer: Offer | None, labels: Mapping[str, str | None]) -> None:
    """Cards are cut anew only while nobody uses them; taking them away is not ours to decide."""
    if gpu.MIG_LABEL in labels and offer is not None and offer.held:
        raise GpuctlError(
            f"{node.name}: the cards cannot be cut anew ({labels[gpu.MIG_LABEL]}) while pods hold them",
            where=f"{node.source}",
            cause=f"held by {offer.holders}",
            next="stop these pods (kubectl cordon keeps new ones away), then run the same command again",
        )


def reached(hosts: Mapping[str, Host | GpuctlError]) -> dict[str, Host]:
    """The hosts, or the first one's error."""
    for host in hosts.values():
        if isinstance(host, GpuctlError):
            raise host
    return {name: host for name, host in hosts.items() if isinstance(host, Host)}


def layers(ctx: Context) -> list[str]:
    """For every node whose counts disagree with the spec: at which layer they first do."""
    hosts, offers = observe.hosts(ctx), observe.offers(ctx)
    found = []
    for node in gpu.gpu_nodes(ctx.spec):
        host = hosts[node.name]
        problem = (
            host.what
            if isinstance(host, GpuctlError)
            else observe.layer(node, host, offers.get(node.name), gpu.offered(ctx.spec, node))
        )
        if problem:
            found.append(f"{node.name}: {problem}")
    return found


def policy_state(ctx: Context) -> str:
    """What the Operator says of itself: ready, notReady, or "" before it has said anything."""
    try:
        return str((ctx.kubernetes.get(POLICY).get("status") or {}).get("state", ""))
    except GpuctlError as error:
        if error.status == 404:
            return ""
        raise
