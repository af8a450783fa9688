"""bootstrap: prepared hosts, K3s behind the virtual IP, labels and taints, the kubeconfig.

The plan is the very playbook in check mode, with its diffs, after one look at every host.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuctl.context import Context
from gpuctl.phases.base import Action, Change, Plan
from gpuctl.phases.bootstrap import lasting, members, observe
from gpuctl.render import hosts
from gpuctl.render.hosts import Observed
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import write_private
from gpuctl.spec.resolved import Node
from gpuctl.systems import kubeconfig
from gpuctl.systems.ansible import TaskResult, failure

PLAYBOOK = "bootstrap.yml"
CHECK_SECONDS = 300.0
SNAPSHOT = "snapshot"


@dataclass(frozen=True)
class Payload:
    """``hosts``: whether the playbook has something to do; the rest is done through the API afterwards.

    ``former``: nodes whose machine was replaced and whose Node object goes first.
    """

    hosts: bool
    observed: dict[str, Observed]
    former: tuple[str, ...] = ()


class Bootstrap:
    """The second phase."""

    name = "bootstrap"
    title = "K3s, highly available behind the virtual IP"

    def plan(self, ctx: Context) -> Plan:
        vms = ctx.proxmox.vms()
        running = {vm.vmid for vm in vms if vm.status == "running"}
        if missing := [node.name for node in ctx.spec.nodes if node.vm_id not in running]:
            return Plan(self.name, unknown=f"after provision: {len(missing)} hosts do not exist or run yet")
        # whoever is to leave the cluster leaves it when its machine is gone, which takes consent
        names = {node.name for node in ctx.spec.nodes}
        if left := sorted({vm.name for vm in vms if {"gpuctl", ctx.spec.name} <= set(vm.tags)} - names):
            return Plan(self.name, unknown=f"after provision: the VM of {', '.join(left)} is still there")
        # before anything can use them
        for secret in ("server-token", "agent-token"):
            ctx.redactor.add(ctx.workspace.secret(secret))
        observed = observe.all_hosts(ctx)
        _one_cluster(ctx, observed)
        lasting.refuse(ctx.spec, observed)
        ctx.ansible.prepare(hosts.inventory(ctx.spec, observed, secrets=str(ctx.workspace.secrets)))
        results = ctx.ansible.run(
            PLAYBOOK, check=True, deadline=ctx.deadline(CHECK_SECONDS, "comparing the hosts with the spec")
        )
        if error := failure(results):
            raise error
        changes = [c for node in ctx.spec.nodes for c in _host_changes(node, results)]
        founded = any(seen.data for seen in observed.values())
        on_hosts = bool(changes)
        former = members.former(ctx, observed) if founded and ctx.workspace.kubeconfig.exists() else ()
        changes[:0] = [
            Change(f"node/{name}", "remove", "the Node object of the machine that was replaced") for name in former
        ]
        if not founded or not ctx.workspace.kubeconfig.exists():
            changes.append(Change("kubeconfig", "create", f"through https://{ctx.spec.network.api_vip}:6443"))
        elif not on_hosts:
            changes += _members(ctx)
        if not any(seen.snapshots for seen in observed.values()):
            changes.append(Change(SNAPSHOT, "create", "a first etcd snapshot"))
        return Plan(
            self.name,
            tuple(changes),
            payload=Payload(on_hosts, observed, former),
            notes=() if changes else (f"{len(ctx.spec.nodes)} hosts observed",),
        )

    def apply(self, ctx: Context, plan: Plan) -> None:
        payload: Payload = plan.payload
        for name in payload.former:
            members.forget(ctx, name)
        if payload.hosts:
            self._run(ctx)
        node = ctx.spec.servers[0]
        self._kubeconfig(ctx, node)
        members.apply(ctx)
        if any(change.target == SNAPSHOT for change in plan.changes):
            deadline = ctx.deadline(120, "taking an etcd snapshot")
            done = ctx.ssh.run(node, "k3s etcd-snapshot save --name first", deadline=deadline)
            if done.code:
                raise GpuctlError(
                    f"{node.name}: no etcd snapshot could be taken",
                    where=f"host {node.name}",
                    cause=done.stderr.strip(),
                )
            ctx.say("target", "etcd snapshot taken", phase=self.name, target=f"host/{node.name}")

    def _run(self, ctx: Context) -> None:
        total = len(ctx.spec.nodes)
        done: set[str] = set()

        def on_result(result: TaskResult) -> None:
            if result.outcome != "ok":
                return
            if result.task.startswith("Run the"):
                done.add(result.host)
                verb = "joined" if result.changed else "is a member"
                ctx.say("target", verb, phase=self.name, target=f"host/{result.host}")
                ctx.say("progress", f"{len(done)} of {total} nodes ready", phase=self.name, done=len(done), total=total)
            elif result.task == "Prepare the host":
                ctx.say("target", "prepared", phase=self.name, target=f"host/{result.host}")

        seconds = 900.0 + 120.0 * len(ctx.spec.servers)
        results = ctx.ansible.run(
            PLAYBOOK, deadline=ctx.deadline(seconds, "bootstrapping the hosts"), on_result=on_result
        )
        if error := failure(results):
            raise error

    def _kubeconfig(self, ctx: Context, node: Node) -> None:
        deadline = ctx.deadline(60, "fetching the kubeconfig")
        done = ctx.ssh.run(node, "cat /etc/rancher/k3s/k3s.yaml", deadline=deadline)
        if done.code:
            raise GpuctlError(f"{node.name} has no kubeconfig", where=f"host {node.name}", cause=done.stderr.strip())
        text = kubeconfig.through_vip(done.stdout, ctx.spec)
        path = ctx.workspace.kubeconfig
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_private(path, text)
            ctx.kubernetes.renew()
        waiting = ctx.deadline(90, f"waiting for the API at {ctx.spec.network.api_vip}")
        last: GpuctlError | None = None
        for _ in waiting.ticks(0.5):
            try:
                ctx.kubernetes.get("/version")
            except GpuctlError as error:
                last = error
            else:
                return
        raise GpuctlError(
            f"the API VIP {ctx.spec.network.api_vip} does not answer",
            where="keepalived on the servers",
            cause=last.cause if last else "",
            next="systemctl status keepalived on the servers; is VRRP (IP protocol 112) let through?",
        )


def _members(ctx: Context) -> list[Change]:
    """What of the nodes differs; where the cluster no longer takes our kubeconfig, that a fresh one is fetched."""
    try:
        return members.plan(ctx)
    except GpuctlError as error:
        if error.exit_code != Exit.CREDENTIALS:
            raise
        return [Change("kubeconfig", "update", f"the cluster does not take it any more: {error.what}")]


def _one_cluster(ctx: Context, observed: dict[str, Observed]) -> None:
    """Hosts with data of different clusters must never be joined."""
    hashes: dict[str, list[str]] = {}
    for name, seen in observed.items():
        if seen.data and seen.ca_hash:
            hashes.setdefault(seen.ca_hash, []).append(name)
    if len(hashes) > 1:
        smallest = min(hashes.values(), key=len)
        raise GpuctlError(
            f"{', '.join(smallest)} holds the data of another cluster than the other servers",
            cause="\n".join(f"CA {digest[:12]}: {', '.join(names)}" for digest, names in hashes.items()),
            next=f"gpuctl apply --replace {smallest[0]}",
        )


def _host_changes(node: Node, results: list[TaskResult]) -> list[Change]:
    """One change for all that happens to the host, and one for a reboot."""
    target, because = f"host/{node.name}", (node.source,)
    mine = [result for result in results if result.host == node.name and result.changed]
    reboots = [result for result in mine if result.task.startswith("Reboot")]
    others = [result for result in mine if result not in reboots]
    made = [Change(target, "restart", "reboot", because, disruption="reboots the host")] if reboots else []
    if not others:
        return made
    what = [str(item) for result in others for item in result.result.get("changes", ())]
    diffs = [diff for result in others for diff in result.result.get("diff") or ()]
    restart = any(result.result.get("restart") for result in others)
    action: Action = "restart" if restart else "update"
    role = "the API server restarts, the VIP may move" if node.is_server else "the kubelet restarts, pods go on"
    change = Change(
        target,
        action,
        ", ".join(what[:4]) + (f" and {len(what) - 4} more" if len(what) > 4 else ""),
        because,
        before="".join(str(diff.get("before", "")) for diff in diffs),
        after="".join(f"{diff.get('after_header', '')}:\n{diff.get('after', '')}" for diff in diffs),
        disruption=role if restart else "",
    )
    return [*made, change]
