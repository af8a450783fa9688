"""jupyter: JupyterHub with its policies, by Helm or left to Fleet; done when users reach it through the ingress."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.context import Context
from gpuctl.phases import releases
from gpuctl.phases.base import Change, Plan
from gpuctl.phases.jupyter import fleet, homes, reach, secret
from gpuctl.phases.steps import Step, carry_out
from gpuctl.render import jupyterhub, policies
from gpuctl.render.charts import Release
from gpuctl.spec.resolved import JupyterHub

RESTART = "the hub restarts, running notebooks go on"
GONE = "nobody reaches a notebook any more; homes stay"


class Jupyter:
    """The fifth phase."""

    name = "jupyter"
    title = "JupyterHub, reached through the ingress"

    def plan(self, ctx: Context) -> Plan:
        if not ctx.workspace.kubeconfig.exists():
            return Plan(self.name, unknown="after bootstrap: there is no cluster yet")
        hub = ctx.spec.jupyterhub
        if hub is None:
            gone = [
                _priced(step) for name in (jupyterhub.NAME, policies.NAME) for step in self._release(ctx, name, None)
            ]
            return _planned(self.name, gone, "the spec has no jupyterhub")
        release = jupyterhub.release(ctx.spec)
        steps = [*namespace(ctx), *secret.steps(ctx, hub)]
        steps += self._release(ctx, policies.NAME, policies.release(ctx.spec))
        steps += homes.steps(ctx, hub)
        steps += [_priced(step) for step in self._release(ctx, jupyterhub.NAME, release)]
        if not steps and (problem := reach.problem(ctx, hub)):
            change = Change(f"hub/{hub.hostname}", "update", f"wait until it answers: {problem}")
            steps = [Step(change, lambda: None)]
        if steps and release:
            steps[-1] = _reached(ctx, hub, release, steps[-1])
        return _planned(self.name, steps, f"https://{hub.hostname} answers, {len(hub.profiles)} profiles")

    def apply(self, ctx: Context, plan: Plan) -> None:
        carry_out(ctx, plan.payload)

    def _release(self, ctx: Context, name: str, wanted: Release | None) -> list[Step]:
        if ctx.spec.by_fleet(name):
            return fleet.steps(ctx, name, wanted)
        return releases.steps(ctx, self.name, name, jupyterhub.NAMESPACE, wanted)


def _planned(phase: str, steps: list[Step], note: str) -> Plan:
    changes = tuple(step.change for step in steps)
    return Plan(phase, changes, payload=tuple(steps), notes=() if steps else (note,))


def _priced(step: Step) -> Step:
    """The hub's release with its price."""
    price = RESTART if step.change.action == "update" else GONE if step.change.action == "remove" else ""
    return Step(replace(step.change, disruption=price), step.run)


def _reached(ctx: Context, hub: JupyterHub, release: Release, step: Step) -> Step:
    """The last step: done when users reach the hub."""

    def run() -> None:
        step.run()
        releases.wait(ctx, "jupyter", release)
        reach.wait(ctx, hub)

    return Step(step.change, run)


def namespace(ctx: Context) -> list[Step]:
    """The notebooks' namespace, with what the Pod Security admission holds it to."""
    path = f"/api/v1/namespaces/{jupyterhub.NAMESPACE}"
    found = ctx.kubernetes.list("/api/v1/namespaces", fieldSelector=f"metadata.name={jupyterhub.NAMESPACE}")
    have = (found[0]["metadata"].get("labels") or {}) if found else {}
    different = sorted(name for name, value in policies.LABELS.items() if have.get(name) != value)
    if not different:
        return []
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": jupyterhub.NAMESPACE, "labels": dict(policies.LABELS)},
    }

    def run() -> None:
        ctx.kubernetes.apply(path, body)

    words = f"Pod Security {policies.LABELS['pod-security.kubernetes.io/enforce']}"
    change = Change(f"namespace/{jupyterhub.NAMESPACE}", "update" if found else "create", words)
    return [Step(change, run)]
