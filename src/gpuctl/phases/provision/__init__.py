"""provision: image, GPU mappings and VMs by Terraform, until every host answers SSH and its first boot is over."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuctl.context import Context
from gpuctl.phases.base import Change, Plan
from gpuctl.phases.provision import cards, changes, majority, preflight
from gpuctl.render import terraform as render
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node
from gpuctl.systems.ssh import Completed, HostKeyChanged, Refused
from gpuctl.systems.terraform import VM_TYPE, ResourceChange, target_of

FIRST_BOOT_SECONDS = 900.0
SSH_EVERY = 1.0
# from the first refusal on: cloud-init may not have made our user yet
REFUSED_SECONDS = 60.0
# exit code of our own script
BOOT_FAILED = 3


@dataclass(frozen=True)
class Payload:
    """What apply needs: the saved plan, the changes in it, and the nodes whose VM will be a new machine."""

    saved: Path
    resources: tuple[ResourceChange, ...]
    fresh: tuple[str, ...]
    waiting: tuple[str, ...]


def prepare(ctx: Context, others: preflight.Others | None) -> None:
    """Choose the cards from those that ``others`` leave, render the variables and initialise Terraform.

    None for a removal, which needs no cards: one that has failed must not stand in its way.
    """
    chosen = {}
    if others:
        held = frozenset(preflight.held_cards(ctx.spec, ctx.workspace.cluster_id, others))
        chosen = cards.assign(ctx.spec, ctx.proxmox.cards(), others.mappings, held)
    keys = [ctx.ssh.public_key(), *ctx.spec.ssh.authorized_keys]
    ctx.terraform.prepare(render.variables(ctx.spec, cluster_id=ctx.workspace.cluster_id, keys=keys, cards=chosen))


def drift(ctx: Context) -> tuple[str, ...]:
    """What Terraform would change now, e.g. ``vm/cp1: update``; empty when the server is as the spec says."""
    prepare(ctx, preflight.look(ctx.proxmox, ctx.spec))
    _, planned = ctx.terraform.plan()
    return tuple(f"{target_of(change.address)}: {' and '.join(change.actions)}" for change in planned)


class Provision:
    """The first phase."""

    name = "provision"
    title = "VMs with GPU passthrough"

    def plan(self, ctx: Context) -> Plan:
        preflight.reach(ctx)
        others = preflight.look(ctx.proxmox, ctx.spec)
        prepare(ctx, others)
        state = ctx.terraform.state()
        done = ctx.workspace.replaced()
        replace = [f'{VM_TYPE}.node["{name}"]' for name in sorted(ctx.consent.replace - done)]
        changes.refuse_unknown_names(ctx)
        if again := sorted(ctx.consent.replace & done):
            words = "replaced already by the run that did not come to its end, and not again"
            ctx.say("warning", f"{', '.join(again)}: {words}", phase=self.name)
        preflight.check(ctx, state, others)
        saved, planned = ctx.terraform.plan(replace=replace)
        made = changes.of(ctx, planned)
        majority.refuse_loss(ctx, state, planned)
        vms = [c for c in planned if c.type == VM_TYPE]
        fresh = tuple(c.key for c in vms if "create" in c.actions)
        known = {r.key for r in state if r.type == VM_TYPE}
        waiting = self._not_booted(ctx, known - set(fresh))
        made += [Change(f"host/{name}", "update", "first boot to be finished") for name in waiting]
        return Plan(
            self.name,
            tuple(made),
            artifact=saved,
            payload=Payload(saved, tuple(planned), fresh, waiting),
            notes=() if made else (f"{len(known)} VMs as the spec says",),
        )

    def _not_booted(self, ctx: Context, existing: set[str]) -> tuple[str, ...]:
        """Nodes whose VM exists but whose first boot is not over or failed: an earlier run ended before it did.

        A host that is down is not for this phase: bootstrap and verify name it.
        """
        nodes = [node for node in ctx.spec.nodes if node.name in existing]
        deadline = ctx.deadline(30, "looking at the hosts' first boot")
        results = ctx.ssh.run_all(nodes, lambda _: f"{_STATE}{_NO_REBOOT}", deadline=deadline)
        return tuple(sorted(name for name, r in results.items() if not isinstance(r, GpuctlError) and r.code != 0))

    def apply(self, ctx: Context, plan: Plan) -> None:
        payload: Payload = plan.payload
        replaced = [c for c in payload.resources if c.type == VM_TYPE and "delete" in c.actions]
        for change in replaced:
            if "create" in change.actions:
                ctx.ssh.forget(ctx.spec.node(change.key))
        for name in payload.fresh:
            ctx.ssh.forget(ctx.spec.node(name))
        if payload.resources:
            cycles = any(c.type == VM_TYPE and c.actions == ("update",) for c in payload.resources)
            # one after the other where running machines are power-cycled, so that etcd keeps its majority
            parallelism = 1 if cycles else ctx.spec.site.proxmox.parallelism
            ctx.terraform.apply(payload.saved, parallelism=parallelism, on_event=progress(ctx, len(payload.resources)))
            ctx.workspace.note_replaced([change.key for change in replaced if "create" in change.actions])
        # an update may power-cycle a machine, or start one that was down
        updated = [c.key for c in payload.resources if c.type == VM_TYPE and c.actions == ("update",)]
        self._wait_for_hosts(ctx, {*payload.fresh, *payload.waiting, *updated})

    def _wait_for_hosts(self, ctx: Context, names: Collection[str]) -> None:
        """SSH, then the first boot with its reboot, all hosts at once, with one deadline."""
        waiting = [node for node in ctx.spec.nodes if node.name in names]
        total = len(waiting)
        deadline = ctx.deadline(FIRST_BOOT_SECONDS, "waiting for the hosts' first boot")
        last: dict[str, Completed | GpuctlError] = {}
        refused: dict[str, Deadline] = {}
        said = -1
        for _ in deadline.ticks(SSH_EVERY):
            results = ctx.ssh.run_all(waiting, lambda _: _FIRST_BOOT, deadline=deadline)
            for node in list(waiting):
                result = results[node.name]
                last[node.name] = result
                if isinstance(result, HostKeyChanged):
                    raise result
                if isinstance(result, Refused):
                    grace = refused.setdefault(node.name, deadline.within(REFUSED_SECONDS, "being let in"))
                    if grace.expired and not deadline.stop.is_set():
                        raise result
                    continue
                refused.pop(node.name, None)
                if isinstance(result, GpuctlError):
                    continue
                if result.code == BOOT_FAILED:
                    raise _boot_failed(node, result)
                if result.code == 0:
                    waiting.remove(node)
                    if result.stdout.strip():
                        ctx.say(
                            "warning",
                            f"{node.name}: its first boot is done with errors that it recovered from:\n"
                            f"{result.stdout.strip()}",
                            phase=self.name,
                            target=f"host/{node.name}",
                        )
                    ctx.say("target", "answers SSH, first boot done", phase=self.name, target=f"host/{node.name}")
            if total - len(waiting) != said:
                said = total - len(waiting)
                ctx.say(
                    "progress", f"first boot done on {said} of {total} hosts", phase=self.name, done=said, total=total
                )
            if not waiting:
                return
        node = waiting[0]
        result = last[node.name]
        others = len(waiting) - 1
        more = f" and {others} other host{'s' * (others != 1)}" if others else ""
        where = f"host {node.name} ({node.address}){more}"
        if isinstance(result, GpuctlError):
            deadline.check(where=where, cause=f"{result.what}\n{result.cause}".strip(), next=result.next)
        else:
            deadline.check(
                where=where,
                cause=f"its first boot does not end: {result.stdout}".strip(),
                next=f"cloud-init status --long on {node.name}; then run the same command again",
            )


def _boot_failed(node: Node, result: Completed) -> GpuctlError:
    return GpuctlError(
        f"the first boot of {node.name} failed",
        where=f"host {node.name} ({node.address})",
        cause=result.stdout.strip(),
        next=f"/var/log/cloud-init-output.log on {node.name} has all of it; then make the VM anew: "
        f"gpuctl apply --replace {node.name}",
    )


# 0: done, and what cloud-init recovered from is printed; 1: not over; BOOT_FAILED: with cloud-init's reasons.
# cloud-init's own exit code for done with recoverable errors is 2
_STATE = f"""
said=$(cloud-init status 2>&1); code=$?
case "$said" in
*"status: error"*) cloud-init status --long; exit {BOOT_FAILED} ;;
*"status: done"*) [ $code != 2 ] || cloud-init status --long ;;
*) echo "$said"; exit 1 ;;
esac
"""
_NO_REBOOT = "[ ! -e /run/reboot-required ] || exit 1\n"
# A reboot that the first boot asks for is done here, once, before anything runs on the host. The wait is short: all
# hosts are asked together, and what one of them says must not wait for the others.
_FIRST_BOOT = f"""
timeout 15 cloud-init status --wait >/dev/null 2>&1
{_STATE}
[ -e /run/reboot-required ] || exit 0
nohup sh -c 'sleep 0.2; systemctl reboot' >/dev/null 2>&1 &
echo rebooting; exit 1
"""


def progress(ctx: Context, total: int) -> Any:
    done = 0

    def on_event(event: Mapping[str, Any]) -> None:
        nonlocal done
        hook = event.get("hook") or {}
        target = target_of(str((hook.get("resource") or {}).get("addr", "")))
        if event.get("type") == "apply_complete":
            done += 1
            verb = {"create": "created", "update": "changed", "delete": "removed"}.get(str(hook.get("action")), "done")
            seconds = hook.get("elapsed_seconds", 0)
            ctx.say("target", f"{verb} ({seconds} s)", phase="provision", target=target)
            ctx.say("progress", f"{done} of {total} resources", phase="provision", done=done, total=total)
        elif event.get("type") == "apply_errored":
            ctx.say("target", "failed", phase="provision", target=target)

    return on_event
