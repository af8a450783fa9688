"""From Terraform's plan to ours: what happens to which VM, what it disturbs, what needs consent, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
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
    return [_vm(ctx, change) if change.type == VM_TYPE else _other(change) for change in planned]


def _other(change: ResourceChange) -> Change:
    action: Action = (
        "create" if change.actions == ("create",) else "remove" if change.actions == ("delete",) else "update"
    )
    values = change.after or change.before
    rows = values.get("map") or [{}]
    summary = str(values.get("url") or rows[0].get("path") or "")
    return Change(target_of(change.address), action, summary)


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
    if _address(before) != _address(after):
        raise GpuctlError(
            f"{name}: the address of a running VM cannot be changed ({_address(before)} -> {_address(after)})",
            where=str(because[0]) if because else "",
            cause="cloud-init sets it on first boot only; etcd and certificates know the old one",
            next=f"set it back, or: gpuctl apply --replace {name}",
            exit_code=Exit.USAGE,
        )
    words, disruption = [], ""
    for block, field, unit in (("cpu", "cores", "cpus"), ("memory", "dedicated", "MiB")):
        old, new = before[block][0][field], after[block][0][field]
        if old != new:
            words.append(f"{old} -> {new} {unit}")
            disruption = "power-cycles the VM"
    old_disks = {d["interface"]: d["size"] for d in before["disk"]}
    for disk in after["disk"]:
        old_size = old_disks.get(disk["interface"])
        if old_size is None:
            words.append(f"new disk {disk['interface']} {disk['size']} GiB")
            disruption = "power-cycles the VM"
        elif disk["size"] < old_size:
            raise GpuctlError(
                f"{name}: {disk['interface']} cannot shrink from {old_size} to {disk['size']} GiB",
                where=str(because[0]) if because else "",
                next=f"set it back, or: gpuctl apply --replace {name}",
                exit_code=Exit.USAGE,
            )
        elif disk["size"] > old_size:
            words.append(f"{disk['interface']} {old_size} -> {disk['size']} GiB")
    if before["hostpci"] != after["hostpci"]:
        words.append(f"{len(before['hostpci'])} -> {len(after['hostpci'])} cards")
        disruption = "power-cycles the VM"
    if before.get("started") is False and after.get("started"):
        words.append("started again")
    for field in ("description", "tags"):
        if before.get(field) != after.get(field):
            words.append(field)
    return Change(target, "update", ", ".join(words) or "settings", because, disruption=disruption)


def _address(values: Any) -> str:
    init = values.get("initialization") or [{}]
    configs = init[0].get("ip_config") or [{}]
    return str((configs[0].get("ipv4") or [{}])[0].get("address", ""))


def _size(values: Any) -> str:
    disks = sum(disk["size"] for disk in values["disk"])
    cards = f", {len(values['hostpci'])} GPUs" if values["hostpci"] else ""
    return f"{values['cpu'][0]['cores']} cpus, {values['memory'][0]['dedicated'] // 1024} GiB, {disks} GiB disk{cards}"
