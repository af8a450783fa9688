"""What must be true of the Proxmox server before anything is changed; every problem at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuctl.context import Context
from gpuctl.render.terraform import mark
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.systems.proxmox import PciMapping, Proxmox, Store, Vm, cards_of
from gpuctl.systems.terraform import VM_TYPE, Resource

# (path, privileges) as the API's documentation lists them per call
NEEDED = (
    (
        "/vms",
        "VM.Allocate VM.Audit VM.PowerMgmt VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit VM.Config.Disk "
        "VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.GuestAgent.Audit",
    ),
    ("/mapping/pci", "Mapping.Use Mapping.Audit Mapping.Modify"),
    ("/", "Sys.Audit"),
)


@dataclass(frozen=True)
class Others:
    """The server's VMs, the configuration by id of those that can be in our way, and the PCI mappings by name."""

    vms: Sequence[Vm]
    configs: Mapping[int, Mapping[str, str]]
    mappings: Mapping[str, PciMapping]


def look(proxmox: Proxmox, spec: Resolved) -> Others:
    """Ask the server for them: VMs that have an id of ours, and all on our node when the spec wants cards."""
    vms, ids = proxmox.vms(), {node.vm_id for node in spec.nodes}
    wants_cards = any(node.gpus for node in spec.nodes)
    wanted = [vm for vm in vms if vm.vmid in ids or (wants_cards and vm.node == spec.site.proxmox.node)]
    return Others(vms, {vm.vmid: proxmox.config(vm.vmid, vm.node) for vm in wanted}, proxmox.mappings())


def reach(ctx: Context) -> None:
    """The API answers, the token is taken, the node is online. GpuctlError otherwise."""
    ctx.proxmox.version()
    nodes, node = ctx.proxmox.nodes(), ctx.spec.site.proxmox.node
    if node not in nodes:
        raise GpuctlError(
            f"the Proxmox server has no node {node!r}",
            where=ctx.spec.site.proxmox.endpoint,
            cause=f"it has {', '.join(sorted(nodes))}",
            next="correct site.proxmox.node",
            exit_code=Exit.USAGE,
        )
    if not nodes[node]:
        raise GpuctlError(f"the Proxmox node {node} is offline", where=ctx.spec.site.proxmox.endpoint)


def check(ctx: Context, state: Sequence[Resource], others: Others) -> None:
    """GpuctlError that lists every problem; nothing has been changed then."""
    spec = ctx.spec
    known = {int(r.values.get("vm_id") or 0) for r in state if r.type == VM_TYPE}
    cluster_id = ctx.workspace.cluster_id
    problems = [
        *missing_privileges(spec, ctx.proxmox.permissions()),
        *wrong_storages(spec, ctx.proxmox.stores(), new_bytes(spec, known)),
        *foreign_vms(spec, cluster_id, others, known),
        *foreign_mappings(spec, cluster_id, others.mappings),
        *cards_in_use(spec, others.mappings, held_cards(spec, cluster_id, others)),
        *missing_bridge(spec, ctx.proxmox.bridges()),
    ]
    if problems:
        raise GpuctlError(
            f"{len(problems)} problem{'s' * (len(problems) != 1)} on the Proxmox server; nothing was touched",
            where=f"{spec.site.proxmox.endpoint}, node {spec.site.proxmox.node}",
            cause="\n".join(problems),
            next="solve them, then run the same command again",
        )


def require_privileges(ctx: Context) -> None:
    """GpuctlError that lists every privilege the token lacks."""
    if missing := list(missing_privileges(ctx.spec, ctx.proxmox.permissions())):
        raise GpuctlError(
            "the token lacks privileges; nothing was touched",
            where=ctx.spec.site.proxmox.endpoint,
            cause="\n".join(missing),
            next="grant them on the Proxmox host; docs/getting-started.md has the least-privilege role",
            exit_code=Exit.CREDENTIALS,
        )


def missing_privileges(spec: Resolved, held: dict[str, frozenset[str]]) -> Iterator[str]:
    """One line per path on which the token lacks something."""
    pools = spec.site.proxmox.storage
    needed = [(path, set(text.split())) for path, text in NEEDED]
    needed += [
        (f"/storage/{name}", {"Datastore.AllocateSpace", "Datastore.Audit"}) for name in {pools.os, pools.scratch}
    ]
    # an image that belongs to no VM is only deleted with Datastore.Allocate
    needed.append((f"/storage/{pools.images}", {"Datastore.AllocateTemplate", "Datastore.Allocate", "Datastore.Audit"}))
    needed.append((f"/sdn/zones/localnetwork/{spec.site.proxmox.bridge}", {"SDN.Use"}))
    # the server fetches the image itself
    needed.append((f"/nodes/{spec.site.proxmox.node}", {"Sys.AccessNetwork"}))
    for path, wanted in needed:
        has: set[str] = set()
        for granted, privileges in held.items():
            if granted == "/" or path == granted or path.startswith(f"{granted}/"):
                has |= privileges
        if lacking := sorted(wanted - has):
            yield f"the token lacks {' '.join(lacking)} on {path} (docs/getting-started.md has the role)"


def new_bytes(spec: Resolved, known: set[int]) -> dict[str, int]:
    """Bytes that new VMs will allocate at most, by storage."""
    pools = spec.site.proxmox.storage
    wanted = {pools.os: 0, pools.scratch: 0}
    for node in spec.nodes:
        if node.vm_id not in known:
            wanted[pools.os] += node.disk
            wanted[pools.scratch] += node.scratch or 0
    return wanted


def wrong_storages(spec: Resolved, stores: dict[str, Store], wanted: dict[str, int]) -> Iterator[str]:
    """One line per storage that is missing, inactive, of the wrong content or too small."""
    pools = spec.site.proxmox.storage
    for name, content in {pools.os: "images", pools.scratch: "images", pools.images: "import"}.items():
        store = stores.get(name)
        if store is None:
            yield f"there is no storage {name} (there are {', '.join(sorted(stores))})"
        elif not store.active:
            yield f"the storage {name} is not active"
        elif content not in store.content:
            yield f"the storage {name} does not take {content!r}: pvesm set {name} --content ...,{content}"
        elif wanted.get(name, 0) > store.free:
            free, need = store.free >> 30, wanted[name] >> 30
            yield f"the storage {name} has {free} GiB free, the new disks need up to {need} GiB"


def missing_bridge(spec: Resolved, bridges: Collection[str]) -> Iterator[str]:
    """A line when the node has no such bridge."""
    bridge = spec.site.proxmox.bridge
    if bridge not in bridges:
        yield f"the node has no bridge {bridge} (it has {', '.join(sorted(bridges))}); correct site.proxmox.bridge"


def foreign_vms(spec: Resolved, cluster_id: str, others: Others, known: Collection[int]) -> Iterator[str]:
    """VM ids of ours that somebody else's VM has: the provider would silently take it over."""
    ours = mark(spec, cluster_id)
    wanted = {node.vm_id: node for node in spec.nodes}
    for vm in others.vms:
        node = wanted.get(vm.vmid)
        if node is not None and ours not in others.configs[vm.vmid].get("description", ""):
            state = " although it is in the Terraform state" if vm.vmid in known else ""
            yield (
                f"VM {vm.vmid} ({vm.name}) has the id of {node.name} and is not ours{state}: move it away, or choose "
                "another site.proxmox.vm_id_base"
            )


def foreign_mappings(spec: Resolved, cluster_id: str, mappings: Mapping[str, PciMapping]) -> Iterator[str]:
    """Mappings with our names that do not carry our mark."""
    ours = mark(spec, cluster_id)
    for name, found in sorted(mappings.items()):
        if name.startswith(f"{spec.name}-") and "-gpu" in name and found.comment != ours:
            yield f"the PCI mapping {name} exists and is not ours (its comment is {found.comment!r}): remove it"


def held_cards(spec: Resolved, cluster_id: str, others: Others) -> dict[str, Vm]:
    """Cards that the configuration of somebody else's VM on our node names, by path. A stopped VM may start again."""
    ours, held = mark(spec, cluster_id), dict[str, Vm]()
    for vm in others.vms:
        config = others.configs.get(vm.vmid, {})
        if vm.node == spec.site.proxmox.node and ours not in config.get("description", ""):
            held.update(dict.fromkeys(cards_of(config, others.mappings), vm))
    return held


def cards_in_use(spec: Resolved, mappings: Mapping[str, PciMapping], held: Mapping[str, Vm]) -> Iterator[str]:
    """One line per card that we have a claim on and somebody else's VM holds."""
    claimed = {p for name, m in mappings.items() if name.startswith(f"{spec.name}-") for p in m.paths}
    for path, vm in sorted(held.items()):
        named = any(path in (d, f"0000:{d}", f"0000:{d}.0") for n in spec.nodes if n.gpus for d in n.gpus.devices)
        if path in claimed or named:
            yield f"the card {path} belongs to VM {vm.vmid} ({vm.name}), which is {vm.status}: take it away there"
