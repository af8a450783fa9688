"""How the difference of two specs is shown: a line each with its place, and below it what it does."""

from __future__ import annotations

from gpuctl.spec.diff import ABSENT, Diff, Difference


def lines(diff: Diff) -> list[str]:
    """For people."""
    if not diff.differences:
        return ["nothing differs"]
    shown = [line for one in diff.differences for line in _difference(one)]
    shown += [f"node {name} comes" for name in diff.added]
    shown += [f"node {name} goes: needs --remove {name}" for name in diff.removed]
    shown += [f"node {name} is another VM: needs --replace {name}" for name in diff.replaced]
    shown += [
        f"VM {vm_id} would go from {old} to {new}: refused in one run; take {old} away first, or use other addresses"
        for vm_id, old, new in diff.moved
    ]
    count = len(diff.differences)
    kinds = ", ".join(f"{number} {kind}" for kind, number in diff.kinds.items())
    said = f"{count} field{'s differ' if count != 1 else ' differs'}: {kinds}"
    said += f"; nodes: {len(diff.added)} more, {len(diff.removed)} fewer" if diff.added or diff.removed else ""
    return [*shown, "", f"{said}. gpuctl plan says what of it the living cluster needs."]


def _difference(one: Difference) -> list[str]:
    follows = "  (a default that follows another field)" if one.follows else ""
    return [f"{one.path}: {one.old} -> {one.new}  {one.at}{follows}", f"    {one.effect}"]


def as_json(diff: Diff) -> dict[str, object]:
    """For ``-o json``."""
    return {
        "differences": [
            {
                "path": one.path,
                "field": one.field,
                "old": None if one.old == ABSENT else one.old,
                "new": None if one.new == ABSENT else one.new,
                "file": one.at.file,
                "line": one.at.line,
                "column": one.at.column,
                "follows": one.follows,
                "effect": {"kind": one.effect.kind, "words": one.effect.words},
                "phases": list(one.effect.phases),
                "files": list(one.effect.files),
            }
            for one in diff.differences
        ],
        "nodes": {
            "added": list(diff.added),
            "removed": list(diff.removed),
            "replaced": list(diff.replaced),
            "moved": [{"vmId": vm_id, "from": old, "to": new} for vm_id, old, new in diff.moved],
        },
        "summary": diff.kinds,
    }
