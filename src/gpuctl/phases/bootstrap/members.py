"""Labels and taints of the nodes, through the API, with removals: what we set is noted in an annotation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gpuctl.context import Context
from gpuctl.phases.base import Change
from gpuctl.render.hosts import Observed
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node, Resolved

NOTE = "gpuctl.io/managed"
POOL = "gpuctl.io/pool"
FORGET_SECONDS = 60.0


def plan(ctx: Context) -> list[Change]:
    """Differences between spec and Node objects."""
    changes = []
    nodes = {str(n["metadata"]["name"]): n for n in ctx.kubernetes.nodes()}
    for node in ctx.spec.nodes:
        if node.name not in nodes:
            changes.append(Change(f"node/{node.name}", "create", "is not a member of the cluster"))
        elif words := difference(node, nodes[node.name]):
            changes.append(Change(f"node/{node.name}", "update", ", ".join(words), (node.source,)))
    for name in sorted(gone(ctx.spec, nodes)):
        changes.append(Change(f"node/{name}", "remove", "its VM is gone: the Node object goes too"))
    return changes


def former(ctx: Context, observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """Nodes whose machine was replaced: the cluster knows the name, the host has never joined.

    K3s refuses the new machine as long as the Node object of the old one is there (its password differs), and takes the
    old etcd member away when that object goes. () while the API does not answer.
    """
    new = {name for name, seen in observed.items() if not seen.member}
    if not new:
        return ()
    try:
        known = {str(node["metadata"]["name"]) for node in ctx.kubernetes.nodes()}
    except GpuctlError:
        return ()
    return tuple(sorted(new & known))


def forget(ctx: Context, name: str) -> None:
    """Delete the Node object of a machine that is no more, and wait for its end."""
    ctx.kubernetes.delete(f"/api/v1/nodes/{name}")
    deadline = ctx.deadline(FORGET_SECONDS, f"removing the Node object of the former {name}")
    if not deadline.until(lambda: all(node["metadata"]["name"] != name for node in ctx.kubernetes.nodes())):
        deadline.check(where=f"node/{name}", cause="a finalizer holds it", next=f"kubectl get node {name} -o yaml")
    ctx.say("target", "the former machine's Node object is gone", phase="bootstrap", target=f"node/{name}")


def gone(spec: Resolved, nodes: dict[str, Any]) -> set[str]:
    """Nodes we made that the spec no longer has. Nodes that others added are left alone."""
    ours = {name for name, node in nodes.items() if NOTE in (node["metadata"].get("annotations") or {})}
    return ours - {node.name for node in spec.nodes}


def wanted_labels(node: Node) -> dict[str, str]:
    return {**dict(node.labels), POOL: node.pool}


def difference(node: Node, live: dict[str, Any]) -> list[str]:
    """In words; [] when labels and taints are as the spec says."""
    patch = patch_of(node, live)
    if not patch:
        return []
    labels = [f"label {k}={v}" if v is not None else f"label {k} removed" for k, v in patch["labels"].items()]
    return labels + (["taints"] if patch["taints"] is not None else []) or ["our note of what we set"]


def patch_of(node: Node, live: dict[str, Any]) -> dict[str, Any]:
    """{} when nothing differs; else labels (None removes), the whole list of taints or None, and the annotation."""
    metadata, spec = live["metadata"], live.get("spec") or {}
    have: dict[str, str] = metadata.get("labels") or {}
    noted = (metadata.get("annotations") or {}).get(NOTE, "")
    before = json.loads(noted) if noted else {"labels": [], "taints": []}
    wanted = wanted_labels(node)
    labels: dict[str, str | None] = {k: v for k, v in wanted.items() if have.get(k) != v}
    labels.update({k: None for k in before["labels"] if k not in wanted and k in have})
    taints = [{"key": t.key, "effect": t.effect, **({"value": t.value} if t.value else {})} for t in node.taints]
    # what others set (not-ready, cordons) stays
    ours = {(t["key"], t["effect"]) for t in taints} | {tuple(pair) for pair in before["taints"]}
    current = [{k: v for k, v in t.items() if k in ("key", "value", "effect")} for t in spec.get("taints") or ()]
    others = [t for t in spec.get("taints") or () if (t["key"], t["effect"]) not in ours]
    mine = [t for t in current if (t["key"], t["effect"]) in ours]
    order = [str(sorted(t.items())) for t in taints]
    differs = sorted(str(sorted(t.items())) for t in mine) != sorted(order)
    note = json.dumps({"labels": sorted(wanted), "taints": sorted([t["key"], t["effect"]] for t in taints)})
    if not labels and not differs and note == noted:
        return {}
    return {"labels": labels, "taints": [*others, *taints] if differs else None, "note": note}


def apply(ctx: Context) -> None:
    """Make labels and taints so; remove Node objects of nodes that the spec no longer has."""
    nodes = {str(n["metadata"]["name"]): n for n in ctx.kubernetes.nodes()}
    for node in ctx.spec.nodes:
        patch = patch_of(node, nodes[node.name]) if node.name in nodes else {}
        if not patch:
            continue
        body: dict[str, Any] = {"metadata": {"labels": patch["labels"], "annotations": {NOTE: patch["note"]}}}
        if patch["taints"] is not None:
            # a list merge would keep removed taints: the patch replaces it whole
            body["spec"] = {"taints": [{"$patch": "replace"}, *patch["taints"]]}
        ctx.kubernetes.patch(f"/api/v1/nodes/{node.name}", body)
    for name in gone(ctx.spec, nodes):
        ctx.kubernetes.delete(f"/api/v1/nodes/{name}")
        ctx.say("target", "removed from the cluster", phase="bootstrap", target=f"node/{name}")
