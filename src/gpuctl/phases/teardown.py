"""destroy: everything of the cluster goes, nothing else; ended by a proof on the Proxmox API.

Terraform's state is kept until the proof has succeeded, and on any failure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuctl.context import Context
from gpuctl.phases import provision
from gpuctl.phases.manage import rancher
from gpuctl.phases.provision import preflight
from gpuctl.render.terraform import image_file, mark
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import on_disk
from gpuctl.spec.resolved import Resolved
from gpuctl.systems import kubeconfig
from gpuctl.systems.proxmox import Vm
from gpuctl.systems.terraform import IMAGE_TYPE, VM_TYPE

# VMs with their configuration
Described = list[tuple[Vm, dict[str, str]]]

REMOVE_SECONDS = 1800.0
# "local-lvm:vm-9011-disk-0,size=32G", "local:9011/vm-9011-disk-0.qcow2"; what is mounted only (an ISO) is not the VM's
DISK = re.compile(r"([^:,]+):(?:[^,]*/)?vm-\d+-")


@dataclass(frozen=True)
class Leavings:
    """What is there of the cluster. ``disks``: (volume id, bytes); ``stores``: where its VMs have disks."""

    vms: tuple[tuple[int, str], ...]
    disks: tuple[tuple[str, int], ...]
    mappings: tuple[str, ...]
    images: tuple[str, ...]
    stores: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        return not (self.vms or self.disks or self.mappings or self.images)


def plan(ctx: Context) -> Leavings:
    """What would go. GpuctlError when the spec protects the cluster."""
    if ctx.spec.protect:
        raise GpuctlError(
            f"{ctx.spec.name} is protected",
            where=ctx.spec.file,
            cause="protect: true",
            next="set protect: false in the spec, then run destroy again",
            exit_code=Exit.USAGE,
        )
    # what the token may not see would be taken for gone
    preflight.reach(ctx)
    preflight.require_privileges(ctx)
    described = _described(ctx)
    _refuse_another_id(ctx, described)
    _refuse_elsewhere(ctx, described)
    return leavings(ctx, described=described)


def leavings(ctx: Context, earlier: Leavings | None = None, described: Described | None = None) -> Leavings:
    """What on the server carries our mark or belongs to what does, or to what did in ``earlier``."""
    ours = mark(ctx.spec, ctx.workspace.cluster_id)
    storage = ctx.spec.site.proxmox.storage
    stores = {storage.os, storage.scratch, storage.images}
    ids, images = set(), set()
    if earlier:
        stores |= earlier.stores
        ids, images = {vmid for vmid, _ in earlier.vms}, set(earlier.images)
    vms = []
    for vm, config in _described(ctx) if described is None else described:
        if ours in config.get("description", ""):
            vms.append((vm.vmid, vm.name))
            # the spec may name other storages by now
            stores |= {found[1] for value in config.values() if (found := DISK.match(value))}
        else:
            ids.discard(vm.vmid)
    ids |= {vmid for vmid, _ in vms}
    stores |= {volume.split(":")[0] for volume in images}
    disks, left = [], []
    for store in sorted(stores):
        for volume in ctx.proxmox.volumes(store):
            if volume.vmid in ids:
                disks.append((volume.volid, volume.size))
            elif volume.volid in images or volume.volid.endswith(f"/{image_file(ctx.spec)}"):
                left.append(volume.volid)
    mappings = [name for name, m in ctx.proxmox.mappings().items() if m.comment == ours]
    return Leavings(tuple(sorted(vms)), tuple(disks), tuple(sorted(mappings)), tuple(left), frozenset(stores))


def _described(ctx: Context) -> Described:
    """The VMs of every node with their configuration. A node that is down does not give it: there the tags tell."""
    found: Described = []
    for vm in ctx.proxmox.vms():
        if vm.status != "unknown":
            found.append((vm, ctx.proxmox.config(vm.vmid, vm.node)))
        elif {"gpuctl", ctx.spec.name} <= set(vm.tags):
            raise GpuctlError(
                f"VM {vm.vmid} ({vm.name}) may be of {ctx.spec.name} and cannot be looked at; nothing was removed",
                where=f"{ctx.spec.endpoint_name}, node {vm.node}",
                cause=f"the node {vm.node} does not answer, and the VM's tags are {', '.join(vm.tags)}",
                next="bring the node back, then run gpuctl destroy again",
            )
    return found


def _refuse_another_id(ctx: Context, described: Described) -> None:
    """What has the cluster's name and another id is the same cluster with its workspace lost, or a namesake."""
    own, kind = ctx.workspace.cluster_id, re.compile(rf"gpuctl:{re.escape(ctx.spec.name)}:(\w+)")
    marks = [(f"VM {vm.vmid} ({vm.name})", config.get("description", "")) for vm, config in described]
    marks += [(f"mapping {name}", m.comment) for name, m in sorted(ctx.proxmox.mappings().items())]
    others = [(what, found[1]) for what, text in marks if (found := kind.search(text)) and found[1] != own]
    if others:
        root = ctx.workspace.root
        raise GpuctlError(
            f"{len(others)} objects of {ctx.spec.name} carry another cluster id than this workspace; "
            "nothing was removed",
            where=f"{ctx.spec.endpoint_name}; {root}",
            cause="\n".join(f"{what}: id {other}, ours is {own}" for what, other in others),
            next="run destroy where the cluster was made, or put its workspace back\n"
            f"if that is lost and the cluster is yours: echo {others[0][1]} > "
            f"{shlex.quote(str(root / 'cluster-id'))}, then run gpuctl destroy again",
        )


def _refuse_elsewhere(ctx: Context, described: Described) -> None:
    """A VM of ours that was migrated: Terraform looks for it on our node and would take it for gone."""
    ours, node = mark(ctx.spec, ctx.workspace.cluster_id), ctx.spec.site.proxmox.node
    moved = [vm for vm, config in described if vm.node != node and ours in config.get("description", "")]
    if moved:
        raise GpuctlError(
            f"{len(moved)} VMs of {ctx.spec.name} are not on the node {node}; nothing was removed",
            where=ctx.spec.endpoint_name,
            cause="\n".join(f"VM {vm.vmid} ({vm.name}) is on {vm.node}" for vm in moved),
            next="\n".join(f"on {vm.node}: qm migrate {vm.vmid} {node}" for vm in moved)
            + "\nthen run gpuctl destroy again",
        )


def describe(planned: Leavings, spec: Resolved) -> str:
    """What goes and what stays, for the operator to read before agreeing."""
    where = f"{spec.name} at {spec.endpoint_name}"
    if planned.empty:
        return f"There is nothing of {where} to remove."
    tib = sum(size for _, size in planned.disks) / (1 << 40)
    nfs = spec.storage.nfs
    stays = f" NFS {nfs.server}:{nfs.path} stays." if nfs else ""
    names = ", ".join(name for _, name in planned.vms[:12]) + (" ..." if len(planned.vms) > 12 else "")
    parts = (
        (len(planned.vms), f"VMs ({names})"),
        (len(planned.disks), f"disks ({tib:.1f} TiB) with all data on them"),
        (len(planned.mappings), "PCI mappings"),
        (len(planned.images), "images"),
    )
    return f"This removes {', '.join(f'{count} {what}' for count, what in parts if count)} of {where}.{stays}"


def apply(ctx: Context, planned: Leavings) -> str:
    """Remove it and prove it; the proof in one line. GpuctlError names what is left."""
    if not planned.empty:
        if ctx.terraform.has_state:
            planned = replace(planned, images=(*planned.images, *_by_terraform(ctx)))
        # what the state does not know: made by a run that was killed before Terraform could write it down
        _by_hand(ctx, leavings(ctx, planned))
    left = leavings(ctx, planned)
    if not left.empty:
        raise GpuctlError(
            f"something of {ctx.spec.name} is left on {ctx.spec.endpoint_name}",
            cause="\n".join(_names(left)),
            next="run gpuctl destroy again; the Terraform state was kept",
        )
    _forget(ctx)
    return f"proved: no VM, disk, mapping or image of {ctx.spec.name} is left on {ctx.spec.endpoint_name}"


def _by_terraform(ctx: Context) -> list[str]:
    """Remove what the state knows; the images it knew, which may be of an earlier spec."""
    provision.prepare(ctx, None)
    ours = mark(ctx.spec, ctx.workspace.cluster_id)
    state = ctx.terraform.state()
    for resource in state:
        if resource.type == VM_TYPE:
            _refuse_foreign(ctx, int(resource.values.get("vm_id") or 0), ours)
    saved, changes = ctx.terraform.plan(destroy=True)
    if changes:
        ctx.terraform.apply(
            saved, parallelism=ctx.spec.site.proxmox.parallelism, on_event=provision.progress(ctx, len(changes))
        )
    return [str(resource.values["id"]) for resource in state if resource.type == IMAGE_TYPE]


def _refuse_foreign(ctx: Context, vmid: int, ours: str) -> None:
    """A VM of this id that is not ours any more must not go, whatever the state says."""
    for vm in ctx.proxmox.vms():
        if vm.vmid == vmid and ours not in ctx.proxmox.config(vmid, vm.node).get("description", ""):
            raise GpuctlError(
                f"VM {vmid} ({vm.name}) is in our state but does not carry our mark: it is somebody else's now",
                where=f"{ctx.spec.endpoint_name}, VM {vmid}",
                cause="it was remade or its description was changed; nothing was removed",
                next=f"if it is ours, put this into its description: {ours}",
            )


def _by_hand(ctx: Context, left: Leavings) -> None:
    deadline = ctx.deadline(REMOVE_SECONDS, "removing what Terraform does not know")
    for vmid, name in left.vms:
        ctx.proxmox.delete_vm(vmid, deadline)
        ctx.say("target", "removed", phase="destroy", target=f"vm/{name}")
    for mapping in left.mappings:
        ctx.proxmox.delete_mapping(mapping)
    for image in left.images:
        ctx.proxmox.delete_volume(image, deadline)


def _names(left: Leavings) -> Sequence[str]:
    return [
        *(f"VM {vmid} ({name})" for vmid, name in left.vms),
        *(f"disk {volume}" for volume, _ in left.disks),
        *(f"mapping {name}" for name in left.mappings),
        *(f"image {volume}" for volume in left.images),
    ]


def _forget(ctx: Context) -> None:
    """What was ours on this machine: host keys, kubeconfig, tokens, state. Logs, reports and the SSH key stay."""
    workspace = ctx.workspace
    for node in ctx.spec.nodes:
        ctx.ssh.forget(node)
    if kubeconfig.remove(ctx.spec):
        ctx.say("target", "context removed from your kubeconfig", phase="destroy", target=shlex.quote(ctx.spec.name))
    for path in (
        workspace.kubeconfig,
        workspace.known_hosts,
        workspace.secrets / "server-token",
        workspace.secrets / "agent-token",
        *(workspace.secrets / name for name in (rancher.FIRST, rancher.CURRENT)),
        workspace.terraform / "terraform.tfstate",
        workspace.terraform / "terraform.tfstate.backup",
    ):
        with on_disk(f"remove {path}", path):
            path.unlink(missing_ok=True)
