"""manage: what the cluster is managed with: ingress, storage, certificates, Rancher, Fleet."""

from __future__ import annotations

from collections.abc import Callable

from gpuctl.context import Context
from gpuctl.phases.base import Plan
from gpuctl.phases.manage import certificates, gitops, ingress, rancher, storage
from gpuctl.phases.steps import Step, carry_out

# each needs those before it
PARTS: tuple[Callable[[Context], list[Step]], ...] = (
    ingress.plan,
    storage.plan,
    certificates.plan,
    rancher.plan,
    gitops.plan,
)


class Manage:
    """The fourth phase."""

    name = "manage"
    title = "ingress, storage, certificates, Rancher, Fleet"

    def plan(self, ctx: Context) -> Plan:
        if not ctx.workspace.kubeconfig.exists():
            return Plan(self.name, unknown="after bootstrap: there is no cluster yet")
        parts = [part(ctx) for part in PARTS]
        # what goes does so first and in the opposite order: nothing loses what it stands on
        going = [step for part in reversed(parts) for step in part if step.change.action == "remove"]
        steps = [*going, *(step for part in parts for step in part if step.change.action != "remove")]
        notes = () if steps else (_note(ctx),)
        return Plan(self.name, tuple(step.change for step in steps), payload=tuple(steps), notes=notes)

    def apply(self, ctx: Context, plan: Plan) -> None:
        carry_out(ctx, plan.payload)


def _note(ctx: Context) -> str:
    """What was observed, when nothing is to be done."""
    spec = ctx.spec
    default = spec.storage.default_class
    parts = [f"ingress {spec.kubernetes.ingress}", f"default class {default}" if default else "no default class"]
    if spec.rancher:
        parts.append(f"https://{spec.rancher.hostname} answers")
    return ", ".join(parts)
