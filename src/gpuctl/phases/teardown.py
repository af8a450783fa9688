"""destroy: everything of the cluster goes, nothing else; ended by a proof on the Proxmox API.

Terraform's state is kept until the proof has succeeded, and on any failure.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gpuctl.context import Context
from gpuctl.phases import provision
from gpuctl.phases.provision import preflight
from gpuctl.render.terraform import image_file, mark
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import on_disk
from gpuctl.spec.resolved import Resolved
from gpuctl.systems import kubeconfig
from gpuctl.systems.terraform import VM_TYPE

REMOVE_SECONDS = 1800.0


@dataclass(frozen=True)
class Leavings:
    """What is there of the cluster. ``disks``: (volume id, bytes)."""

    vms: tuple[tuple[int, str], ...]
    disks: tuple[tuple[str, int], ...]
    mappings: tuple[str, ...]
    images: tuple[str, ...]

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
    return leavings(ctx)


def leavings(ctx: Context) -> Leavings:
    """What on the server carries our mark or belongs to what does."""
    ours = mark(ctx.spec, ctx.workspace.cluster_id)
    settings = ctx.spec.site.proxmox
    vms = []
    for vm in ctx.proxmox.vms():
        if vm.node == settings.node and ours in ctx.proxmox.config(vm.vmid, vm.node).get("description", ""):
            vms.append((vm.vmid, vm.name))
    ids = {vmid for vmid, _ in vms}
    disks, images = [], []
    for store in sorted({settings.storage.os, settings.storage.scratch, settings.storage.images}):
        for volume in ctx.proxmox.volumes(store):
            if volume.vmid in ids:
                disks.append((volume.volid, volume.size))
            elif volume.volid.endswith(f"/{image_file(ctx.spec)}"):
                images.append(volume.volid)
    mappings = [name for name, m in ctx.proxmox.mappings().items() if m.comment == ours]
    return Leavings(tuple(sorted(vms)), tuple(disks), tuple(sorted(mappings)), tuple(images))


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
            _by_terraform(ctx)
        # what the state does not know: made by a run that was killed before Terraform could write it down
        _by_hand(ctx, leavings(ctx))
    left = leavings(ctx)
    if not left.empty:
        raise GpuctlError(
            f"something of {ctx.spec.name} is left on {ctx.spec.endpoint_name}",
            cause="\n".join(_names(left)),
            next="run gpuctl destroy again; the Terraform state was kept",
        )
    _forget(ctx)
    return f"proved: no VM, disk, mapping or image of {ctx.spec.name} is left on {ctx.spec.endpoint_name}"


def _by_terraform(ctx: Context) -> None:
    provision.prepare(ctx, for_removal=True)
    ours = mark(ctx.spec, ctx.workspace.cluster_id)
    for resource in ctx.terraform.state():
        if resource.type == VM_TYPE:
            _refuse_foreign(ctx, int(resource.values.get("vm_id") or 0), ours)
    saved, changes = ctx.terraform.plan(destroy=True)
    if changes:
        ctx.terraform.apply(
            saved, parallelism=ctx.spec.site.proxmox.parallelism, on_event=provision.progress(ctx, len(changes))
        )


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
        workspace.terraform / "terraform.tfstate",
        workspace.terraform / "terraform.tfstate.backup",
    ):
        with on_disk(f"remove {path}", path):
            path.unlink(missing_ok=True)
