"""Observe everything the chosen checks need: each source at the same time as the others, each with a deadline.

A source that does not answer becomes its error; nothing here judges.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

from gpuctl.context import Context
from gpuctl.phases import gpu as gpu_phase
from gpuctl.phases import provision
from gpuctl.phases.gpu import observe
from gpuctl.render import gpu
from gpuctl.run.errors import GpuctlError, or_error
from gpuctl.spec.resolved import Node
from gpuctl.systems.ssh import Completed
from gpuctl.verify import applications, gitops, intruders, management, network, paths, probes, starts, storage
from gpuctl.verify.base import IN_PODS, Need
from gpuctl.verify.facts import Clock, Cluster, Endpoint, EtcdMember, Facts, Gpus, Host, Hypervisor, Snapshot
from gpuctl.verify.stress import gather as stress

HOST_SECONDS = 120.0
CLOCK_SAMPLES = 3
READYZ_SAMPLES = 100
WORKERS = 32
# readable by everybody on many clusters by mistake
ANONYMOUS_PATHS = ("/api", "/api/v1/namespaces", "/api/v1/secrets")

EXPORTER, EXPORTER_PORT = "nvidia-dcgm-exporter", 9400
DEPRECATED = re.compile(r"^apiserver_requested_deprecated_apis\{([^}]*)\} 1$", re.MULTILINE)
METRIC = re.compile(r'^(DCGM_\w+)\{[^}]*UUID="([^"]+)"[^}]*\}\s+(\S+)', re.MULTILINE)

LABEL = re.compile(r'(\w+)="([^"]*)"')

T = TypeVar("T")
Source = Callable[[Context], Any]


def facts(ctx: Context, needs: Iterable[Need]) -> Facts:
    """The facts of these sources; the others stay None."""
    wanted = set(needs)
    # before all else, which would be a load on them
    first: dict[Need, Source] = {"hosts": _hosts, "kubernetes": _cluster}
    together: dict[Need, Source] = {
        "proxmox": _hypervisor,
        "terraform": provision.drift,
        "gpus": _gpus,
        "hub": applications.hub,
        "gitops": gitops.observe,
        "services": network.observe,
        "storage": storage.observe,
        "management": management.observe,
    }
    # the adapters are made here, in one thread: they are cached on first use
    failed: dict[str, GpuctlError] = {}
    for need, make in (
        ("proxmox", lambda: ctx.proxmox),
        ("terraform", lambda: ctx.terraform),
        ("hosts", ctx.ssh.public_key),
        ("gpus", ctx.ssh.public_key),
        ("notebooks", ctx.ssh.public_key),
        ("services", ctx.ssh.public_key),
    ):
        if need in wanted:
            try:
                make()
            except GpuctlError as error:
                failed[need] = error
    found: dict[str, Any] = dict(failed)
    able = wanted - failed.keys()
    for need, source in first.items():
        if need in able:
            found[need] = or_error(partial(source, ctx))
    looking = {need: source for need, source in together.items() if need in able}
    found.update(_in_pods(ctx, able & IN_PODS, looking) if able & IN_PODS else _at_once(ctx, looking))
    # users' own work last: it loads what the rest looks at
    if "notebooks" in able:
        found["notebooks"] = or_error(partial(applications.notebooks, ctx, known=found.get("hub")))
    if "stress" in able:
        found["stress"] = or_error(partial(stress.observe, ctx))
    return Facts(now=time.time(), modes=ctx.workspace.private_modes(), **found)


def _at_once(ctx: Context, sources: Mapping[Need, Source]) -> dict[str, Any]:
    with ThreadPoolExecutor(max_workers=max(1, len(sources))) as pool:
        running = {need: pool.submit(or_error, partial(source, ctx)) for need, source in sources.items()}
        return {need: future.result() for need, future in running.items()}


def _in_pods(ctx: Context, wanted: Set[Need], others: Mapping[Need, Source]) -> dict[str, Any]:
    """What pods of our own show. They start while the others look; what takes time in them is measured after that."""
    found: dict[str, Any] = {}
    try:
        with probes.own_namespace(ctx) as namespace:
            probes.post(ctx, namespace)
            if "intruders" in wanted:
                intruders.post(ctx, namespace)
            sources = dict(others)
            if "volumes" in wanted:
                sources["volumes"] = partial(storage.volumes, namespace=namespace)
            found = _at_once(ctx, sources)
            running = probes.running(ctx, namespace)
            # one after the other: each would be a load on the others
            timed: dict[Need, Callable[..., Any]] = {
                "intruders": intruders.observe,
                "starts": starts.observe,
                "paths": paths.observe,
            }
            for need, source in timed.items():
                if need in wanted:
                    found[need] = or_error(partial(source, ctx, namespace=namespace, running=running))
    except GpuctlError as error:
        found = {**dict.fromkeys(wanted, error), **(found or _at_once(ctx, others))}
    return found


# --- Proxmox


def _hypervisor(ctx: Context) -> Hypervisor:
    wanted = {node.vm_id for node in ctx.spec.nodes}
    vms = {vm.vmid: vm for vm in ctx.proxmox.vms()}

    def agent(vmid: int) -> float | None:
        started = time.monotonic()
        return time.monotonic() - started if ctx.proxmox.ping_agent(vmid) else None

    ours = [vmid for vmid in vms if vmid in wanted and vms[vmid].node == ctx.spec.site.proxmox.node]
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        # every VM's, since a card may be given to somebody else's
        configs = dict(zip(vms, pool.map(lambda vm: ctx.proxmox.config(vm.vmid, vm.node), vms.values()), strict=True))
        agents = dict(zip(ours, pool.map(agent, ours), strict=True))
    return Hypervisor(vms, configs, ctx.proxmox.mappings(), agents)


# --- hosts


def _hosts(ctx: Context) -> dict[str, Host | GpuctlError]:
    script = (files("gpuctl.verify") / "on_host.py").read_text(encoding="utf-8")
    nodes = ctx.spec.nodes
    with ThreadPoolExecutor(max_workers=max(1, min(WORKERS, len(nodes)))) as pool:
        found = pool.map(lambda node: _host(ctx, node, script), nodes)
        return {node.name: host for node, host in zip(nodes, found, strict=True)}


def _host(ctx: Context, node: Node, script: str) -> Host | GpuctlError:
    try:
        clock = _clock(ctx, node)
        deadline = ctx.deadline(HOST_SECONDS, f"looking at {node.name}")
        done = ctx.ssh.run(node, f"python3 - <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT", deadline=deadline)
        return _parsed(node, clock, done)
    except GpuctlError as error:
        return error


def _parsed(node: Node, clock: Clock, done: Completed) -> Host:
    try:
        said = json.loads(done.stdout)
        etcd, snapshot = said["etcd"], said["snapshot"]
        return Host(
            clock,
            said["cpus"],
            said["memory"],
            said["certificates"],
            said["modes"],
            EtcdMember(**{**etcd, "peers": tuple(etcd["peers"])}) if etcd else None,
            Snapshot(**snapshot) if snapshot else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise GpuctlError(
            f"{node.name} could not be looked at",
            where=f"host {node.name} ({node.address})",
            cause=done.stderr.strip()[-500:] or str(error),
        ) from error


def _clock(ctx: Context, node: Node) -> Clock:
    """Of several exchanges the fastest: its round trip bounds the error."""
    answered, best = 0.0, (0.0, float("inf"))
    for number in range(CLOCK_SAMPLES):
        before = time.time()
        started = time.monotonic()
        done = ctx.ssh.run(node, "date +%s.%N", deadline=ctx.deadline(30, f"asking {node.name} for the time"))
        took = time.monotonic() - started
        if number == 0:
            answered = took
        try:
            offset = float(done.stdout) - (before + took / 2)
        except ValueError as error:
            raise GpuctlError(f"{node.name} does not tell the time", cause=done.stderr.strip()) from error
        best = min(best, (offset, took / 2), key=lambda sample: sample[1])
    return Clock(*best, answered)


# --- Kubernetes


def _cluster(ctx: Context) -> Cluster:
    kubernetes = ctx.kubernetes
    nodes = kubernetes.nodes()
    pods = kubernetes.list("/api/v1/pods")
    system = [pod for pod in pods if pod["metadata"]["namespace"] == "kube-system"]
    requests = kubernetes.list("/apis/certificates.k8s.io/v1/certificatesigningrequests")
    addresses = {node.name: f"https://{node.address}:6443" for node in ctx.spec.servers}
    addresses["VIP"] = f"https://{ctx.spec.network.api_vip}:6443"
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        endpoints = dict(zip(addresses, pool.map(lambda at: _endpoint(ctx, at), addresses.values()), strict=True))
    anonymous = {path: kubernetes.anonymous_status(path) for path in ANONYMOUS_PATHS}
    releases = {name: release.status for name, release in ctx.helm.installed().items()}
    deprecated = {node.name: _deprecated(ctx, addresses[node.name]) for node in ctx.spec.servers}
    return Cluster(
        tuple(nodes), tuple(system), tuple(requests), releases, endpoints, anonymous, tuple(pods), deprecated
    )


def _deprecated(ctx: Context, address: str) -> tuple[tuple[str, str], ...] | GpuctlError:
    """From a server's metrics: (API, minor without it)."""
    try:
        metrics = str(ctx.kubernetes.at(address).get("/metrics"))
    except GpuctlError as error:
        return error
    found = set()
    for labels in DEPRECATED.findall(metrics):
        label = dict(LABEL.findall(labels))
        version = f"{label['group']}/{label['version']}" if label["group"] else label["version"]
        found.add((f"{version} {label['resource']}", label["removed_release"]))
    return tuple(sorted(found))


def _endpoint(ctx: Context, address: str) -> Endpoint:
    api, latencies, error = ctx.kubernetes.at(address), [], ""
    for _ in range(READYZ_SAMPLES):
        started = time.monotonic()
        try:
            api.get("/readyz")
        except GpuctlError as refused:
            error = error or f"{refused.what} {refused.cause}".strip()
            break
        latencies.append(time.monotonic() - started)
    return Endpoint(tuple(latencies), READYZ_SAMPLES, error)


# --- GPUs


def _gpus(ctx: Context) -> Gpus:
    release = ctx.helm.installed().get(f"{gpu.NAMESPACE}/{gpu.CHART}")
    pods = ctx.kubernetes.list(f"/api/v1/namespaces/{gpu.NAMESPACE}/pods", labelSelector=f"app={EXPORTER}")
    by_node = {str(pod["spec"].get("nodeName")): str(pod["metadata"]["name"]) for pod in pods}
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        read = pool.map(lambda name: _exporter(ctx, name), by_node.values())
        hosts = observe.hosts(ctx)
        exporters = dict(zip(by_node, read, strict=True))
    version = release.version if release else ""
    return Gpus(hosts, observe.offers(ctx), gpu_phase.policy_state(ctx), version, exporters)


def _exporter(ctx: Context, pod: str) -> dict[str, dict[str, float]] | GpuctlError:
    """Values by card and metric, read through the API server's proxy."""
    path = f"/api/v1/namespaces/{gpu.NAMESPACE}/pods/{pod}:{EXPORTER_PORT}/proxy/metrics"
    found: dict[str, dict[str, float]] = {}
    try:
        for metric, uuid, value in METRIC.findall(str(ctx.kubernetes.get(path))):
            found.setdefault(uuid, {})[metric] = float(value)
    except GpuctlError as error:
        return error
    except ValueError as error:
        return GpuctlError(f"{pod} answers something that is no metric", cause=str(error))
    return found
