"""From Terraform's plan to ours: what happens to which VM, what it disturbs, what needs consent, what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gpuctl.context import Context
from gpuctl.phases.base import Action, Change
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.systems.terraform import VM_TYPE, ResourceChange, target_of


def refuse_unknown_names(ctx: Context) -> None:
    """``--replace`` takes nodes of the spec only."""
    unknown = sorted(ctx.consent.replace - {node.name for node in ctx.spec.nodes})
    if unknown:
        raise GpuctlError(
            f"--replace {unknown[0]}: there is no such node",
            cause=f"nodes: {', '.join(node.name for node in ctx.spec.nodes)}",
            exit_code=Exit.USAGE,
        )


def of(ctx: Context, planned: Sequence[ResourceChange]) -> list[Change]:
    """Our changes. GpuctlError for changes that cannot be made on a living VM."""
    _refuse_moved_ids(planned)
    return [_vm(ctx, change) if change.type == VM_TYPE else _other(change) for change in planned]


def _refuse_moved_ids(planned: Sequence[ResourceChange]) -> None:
    """A VM id may not go from one node to another in one run: Terraform knows no order between them, and its provider
    takes an existing VM over as if it had made it.
    """
    vms = [change for change in planned if change.type == VM_TYPE]
    leaving = {change.before["vm_id"]: change.key for change in vms if "delete" in change.actions}
    for change in vms:
        former = leaving.get(change.after.get("vm_id"), change.key) if "create" in change.actions else change.key
        if former != change.key:
            raise GpuctlError(
                f"VM {change.after['vm_id']} cannot go from {former} to {change.key} in one run",
                cause="VM ids follow the addresses, and another node would get the address of one that goes or moves",
                next=f"give {change.key} an address that no node has; or take {former} out of the spec, apply, and add"
                f" {change.key} then",
                exit_code=Exit.USAGE,
            )


def _other(change: ResourceChange) -> Change:
    action: Action = (
        "create" if change.actions == ("create",) else "remove" if change.actions == ("delete",) else "update"
    )
    before, after = _object(change.before), _object(change.after)
    summary = after or before
    if action == "update" and before != after:
        summary = f"{before} -> {after}"
        if change.after.get("map"):
            # Proxmox opens the card of a mapping when a VM starts; no rebooting in the guest changes it
            summary += "; its VM keeps the card it has until it is stopped and started"
    return Change(target_of(change.address), action, summary)


def _object(values: Any) -> str:
    """What a resource that is no VM is about: the image's address, or the mapped card's."""
    return str(values.get("url") or (values.get("map") or [{}])[0].get("path") or "")


def _vm(ctx: Context, change: ResourceChange) -> Change:
    name = change.key
    target = f"vm/{name}"
    nodes = {node.name: node for node in ctx.spec.nodes}
    because = (nodes[name].source,) if name in nodes else ()
    if change.actions == ("create",):
        return Change(target, "create", _size(change.after), because)
    if change.actions == ("delete",):
        return Change(
            target,
            "remove",
            "no longer in the spec",
            disruption="the node and what runs on it",
            loses_data=True,
            consent="" if name in ctx.consent.remove else f"--remove {name}",
        )
    if change.actions == ("update",):
        return _update(change, target, because)
    tainted = change.reason == "replace_because_tainted"
    why = "asked for by --replace"
    if tainted:
        why = "its creation failed half-way"
    elif change.replace_paths:
        why = f"{', '.join(change.replace_paths)} changed"
    agreed = name in ctx.consent.replace
    # a VM that never came up holds nothing
    return Change(
        target,
        "replace",
        why,
        because,
        disruption="" if tainted else "the node and what runs on it",
        loses_data=not tainted,
        consent="" if agreed or tainted else f"--replace {name}",
    )


def _update(change: ResourceChange, target: str, because: Any) -> Change:
    before, after = change.before, change.after
    name = change.key

    def lasting(what: str, cause: str = "") -> GpuctlError:
        return GpuctlError(
            what,
            where=str(because[0]) if because else "",
            cause=cause,
            next=f"set it back, or: gpuctl apply --replace {name}",
            exit_code=Exit.USAGE,
        )

    if _address(before) != _address(after):
        raise lasting(
            f"{name}: the address of a running VM cannot be changed ({_address(before)} -> {_address(after)})",
            "cloud-init sets it on first boot only; etcd and certificates know the old one",
        )
    words, disruption = [], ""
    for block, field, unit in (("cpu", "cores", "cpus"), ("memory", "dedicated", "MiB")):
        old, new = before[block][0][field], after[block][0][field]
        if old != new:
            words.append(f"{old} -> {new} {unit}")
            disruption = "power-cycles the VM"
    old_disks = {disk["interface"]: disk for disk in before["disk"]}
    if gone := sorted(old_disks.keys() - {disk["interface"] for disk in after["disk"]}):
        raise lasting(
            f"{name}: the disk {gone[0]} of a running VM cannot be taken away",
            "the spec does not have it; there may be data on it, and Terraform does not delete disks",
        )
    for disk in after["disk"]:
        old_size = old_disks.get(disk["interface"], {}).get("size")
        if old_size is None:
            words.append(f"new disk {disk['interface']} {disk['size']} GiB")
            disruption = "power-cycles the VM"
        elif disk["size"] < old_size:
            raise lasting(f"{name}: {disk['interface']} cannot shrink from {old_size} to {disk['size']} GiB")
        elif disk["size"] > old_size:
            words.append(f"{disk['interface']} {old_size} -> {disk['size']} GiB")
    if before["hostpci"] != after["hostpci"]:
        words.append(f"{len(before['hostpci'])} -> {len(after['hostpci'])} cards")
        disruption = "power-cycles the VM"
    for disk in after["disk"]:
        old_store = old_disks.get(disk["interface"], {}).get("datastore_id")
        if old_store and old_store != disk.get("datastore_id"):
            words.append(f"{disk['interface']} moves from {old_store} to {disk.get('datastore_id')}")
            disruption = "power-cycles the VM"
    for what, old, new in _network(before, after):
        # the provider's source says so: it reboots a VM whose network device or cloud-init settings differ
        words.append(f"{what} {old} -> {new}")
        disruption = disruption or "reboots the VM"
    if before.get("started") is False and after.get("started"):
        words.append("started again")
    for field in ("description", "tags"):
        if before.get(field) != after.get(field):
            words.append(field)
    return Change(target, "update", ", ".join(words) or "settings", because, disruption=disruption)


def _network(before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """(what, old, new) of everything that differs in the network device and in what cloud-init is told of the LAN."""

    def facts(values: Any) -> dict[str, Any]:
        device = (values.get("network_device") or [{}])[0]
        init = (values.get("initialization") or [{}])[0]
        dns = (init.get("dns") or [{}])[0]
        ipv4 = ((init.get("ip_config") or [{}])[0].get("ipv4") or [{}])[0]
        return {
            "bridge": device.get("bridge"),
            "VLAN": device.get("vlan_id") or "none",
            "MTU": device.get("mtu") or "the bridge's",
            "gateway": ipv4.get("gateway"),
            "DNS": " ".join(dns.get("servers") or ()),
            "search domain": dns.get("domain"),
        }

    old, new = facts(before), facts(after)
    yield from ((name, old[name], new[name]) for name in old if old[name] != new[name])


def _address(values: Any) -> str:
    init = values.get("initialization") or [{}]
    configs = init[0].get("ip_config") or [{}]
    return str((configs[0].get("ipv4") or [{}])[0].get("address", ""))


def _size(values: Any) -> str:
    disks = sum(disk["size"] for disk in values["disk"])
    cards = f", {len(values['hostpci'])} GPUs" if values["hostpci"] else ""
    return f"{values['cpu'][0]['cores']} cpus, {values['memory'][0]['dedicated'] // 1024} GiB, {disks} GiB disk{cards}"
