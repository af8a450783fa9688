"""The ingress controller, reached at the ingress VIP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpuctl.context import Context
from gpuctl.phases import releases, workloads
from gpuctl.phases.base import Change
from gpuctl.phases.steps import Step
from gpuctl.render import ingress
from gpuctl.run.errors import GpuctlError
from gpuctl.systems.helm import OWNER
from gpuctl.systems.https import answers

PHASE = "manage"
PORT = 443
ANSWER_SECONDS, TRAEFIK_SECONDS = 60.0, 600.0
LOOK_SECONDS = 3.0
GONE = "nothing behind the ingress is reached any more"


def plan(ctx: Context) -> list[Step]:
    steps = releases.steps(ctx, PHASE, ingress.NAME, ingress.NAMESPACE, ingress.release(ctx.spec))
    steps = [_priced(step) for step in steps] + _traefik(ctx)
    if ctx.spec.kubernetes.ingress == "none" or not ctx.spec.network.ingress_vip:
        return steps
    problem = _problem(ctx)
    if problem or any(step.change.action != "remove" for step in steps):
        words = f"wait until it answers: {problem}" if problem else "wait until it answers"
        change = Change(f"ingress/{ctx.spec.network.ingress_vip}", "update", words)
        steps.append(Step(change, lambda: _wait(ctx)))
    return steps


def _priced(step: Step) -> Step:
    if step.change.action != "remove":
        return step
    return replace(step, change=replace(step.change, disruption=GONE))


def _traefik(ctx: Context) -> list[Step]:
    """K3s installs Traefik by itself; ours is how it is set up."""
    live, wanted = ctx.kubernetes.find(ingress.TRAEFIK_CONFIG), ingress.traefik(ctx.spec)
    ours = live is not None and (live["metadata"].get("labels") or {}).get(OWNER) == ctx.workspace.cluster_id
    target = f"helmchartconfig/{ingress.TRAEFIK}"
    if wanted is None:
        if not ours:
            return []
        change = Change(target, "remove", "K3s' Traefik is set up by nobody", disruption=GONE)
        return [Step(change, lambda: ctx.kubernetes.delete(ingress.TRAEFIK_CONFIG))]
    if live is not None and not ours:
        raise GpuctlError(
            "K3s' Traefik is set up by somebody else",
            where=f"HelmChartConfig {ingress.TRAEFIK_NAMESPACE}/{ingress.TRAEFIK}",
            cause="there is one such object, and it was not made by gpuctl",
            next=f"kubectl -n {ingress.TRAEFIK_NAMESPACE} delete helmchartconfig {ingress.TRAEFIK}, or choose"
            " kubernetes.ingress: nginx",
        )
    wanted["metadata"]["labels"] = {OWNER: ctx.workspace.cluster_id}
    if live is not None and live["spec"] == wanted["spec"]:
        return []

    def run() -> None:
        _must_know_helm(ctx, wanted)
        ctx.kubernetes.apply(ingress.TRAEFIK_CONFIG, wanted)
        _await_traefik(ctx)

    words = f"Traefik on {ctx.spec.network.ingress_vip}"
    return [Step(Change(target, "update" if live else "create", words), run)]


def _must_know_helm(ctx: Context, wanted: dict[str, Any]) -> None:
    """K3s serves the kind, unless somebody disabled its Helm controller."""
    try:
        ctx.kubernetes.path_of(wanted, ingress.TRAEFIK_NAMESPACE)
    except GpuctlError as error:
        if error.status != 404:
            raise
        raise GpuctlError(
            "this K3s brings no Traefik",
            where=f"the Kubernetes API serves no {wanted['kind']} of {wanted['apiVersion']}",
            cause="K3s' Helm controller is disabled, or this is the rehearsal lab, whose K3s has none",
            next="kubernetes.ingress: nginx in the spec, then the same command again",
        ) from error


def _await_traefik(ctx: Context) -> None:
    """Until K3s has brought Traefik with the address of the spec."""
    path = f"/namespaces/{ingress.TRAEFIK_NAMESPACE}"
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ingress.TRAEFIK}}
    deadline = ctx.deadline(TRAEFIK_SECONDS, "waiting for K3s to install Traefik")
    watch = workloads.Watch(ctx, PHASE, ingress.TRAEFIK_NAMESPACE)
    behind: list[str] = []
    for _ in deadline.ticks(2.0):
        service = ctx.kubernetes.find(f"/api/v1{path}/services/{ingress.TRAEFIK}")
        if service is None or str(ctx.spec.network.ingress_vip) not in _external(service):
            behind = [f"the Service {ingress.TRAEFIK} has no external IP {ctx.spec.network.ingress_vip}"]
        elif ctx.kubernetes.find(f"/apis/apps/v1{path}/deployments/{ingress.TRAEFIK}") is None:
            behind = [f"there is no Deployment {ingress.TRAEFIK}"]
        else:
            behind = workloads.unready(ctx, [deployment], ingress.TRAEFIK_NAMESPACE)
        if not behind:
            return
        ctx.say("progress", f"traefik: {behind[0]}", phase=PHASE, target=f"helmchartconfig/{ingress.TRAEFIK}")
        watch.look()
    raise watch.expired(deadline, behind)


def _external(service: dict[str, Any]) -> list[str]:
    return [str(address) for address in service["spec"].get("externalIPs", ())]


def _problem(ctx: Context) -> str:
    return answers(str(ctx.spec.network.ingress_vip), PORT, LOOK_SECONDS)


def _wait(ctx: Context) -> None:
    vip, traefik = ctx.spec.network.ingress_vip, ctx.spec.kubernetes.ingress == "traefik"
    deadline = ctx.deadline(ANSWER_SECONDS, f"waiting for the ingress at {vip}")
    problem = ""
    for _ in deadline.ticks(1.0):
        problem = _problem(ctx)
        if not problem:
            ctx.say("target", "answers", phase=PHASE, target=f"ingress/{vip}")
            return
        ctx.say("progress", problem, phase=PHASE, target=f"ingress/{vip}")
    namespace, name = (ingress.TRAEFIK_NAMESPACE, ingress.TRAEFIK) if traefik else (ingress.NAMESPACE, ingress.SERVICE)
    service = ctx.kubernetes.find(f"/api/v1/namespaces/{namespace}/services/{name}")
    addresses = _external(service) if service else []
    raise GpuctlError(
        f"the ingress has no address: {vip} takes no connections",
        where=f"Service {namespace}/{name}, external IPs {', '.join(addresses) or 'none'}",
        cause=f"{problem}\n"
        + (
            "no server holds the VIP, or no pod of the controller is ready"
            if addresses
            else "the Service lacks the VIP"
        ),
        next="ip address on the servers (keepalived holds it on one of them); gpuctl bootstrap, then the same again",
    )
