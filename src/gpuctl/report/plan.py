"""How a plan is shown: one line a change, marked + ~ ! -, with its price and the line of the spec it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gpuctl.phases.base import Change, Plan

MARKS = {"create": "+", "update": "~", "restart": "~", "replace": "!", "remove": "!"}


def lines(plans: Sequence[Plan], *, diffs: bool = False) -> list[str]:
    """The plan as text. Phases that cannot be known yet and share a reason are shown together."""
    shown: list[str] = []
    waiting: dict[str, list[str]] = {}
    for plan in plans:
        if plan.unknown:
            waiting.setdefault(plan.unknown, []).append(plan.phase)
        elif not plan.changes:
            shown.append(f"{plan.phase:<11} = nothing to change")
        shown += [f"{plan.phase:<11}   {note}" for note in plan.notes]
        for number, change in enumerate(plan.changes):
            shown += _change(plan.phase if number == 0 else "", change, diffs)
    shown += [f"{' '.join(phases):<11} ? {reason}" for reason, phases in waiting.items()]
    return shown


def _change(phase: str, change: Change, diffs: bool) -> Iterable[str]:
    because = f"  {change.because[0]}" if change.because else ""
    price = f"  [{change.disruption}]" if change.disruption else ""
    loss = "  LOSES DATA" if change.loses_data else ""
    yield f"{phase:<11} {MARKS[change.action]} {change.target:<18} {change.summary}{price}{loss}{because}"
    if change.consent:
        yield f"{'':<11}   {'':<18} needs {change.consent}"
    if diffs:
        for mark, text in (("-", change.before), ("+", change.after)):
            for line in text.splitlines():
                # a unified diff carries its own marks
                yield f"{'':<15}{line}" if line[:1] in "+-@ " else f"{'':<15}{mark} {line}"


def summary(plans: Sequence[Plan]) -> str:
    """``7 to create, 0 to change, 0 to remove``."""
    changes = [change for plan in plans for change in plan.changes]
    created = sum(change.action == "create" for change in changes)
    removed = sum(change.action in ("replace", "remove") for change in changes)
    return f"{created} to create, {len(changes) - created - removed} to change, {removed} to replace or remove"


def document(cluster: str, plans: Sequence[Plan]) -> dict[str, object]:
    """What ``gpuctl plan -o json`` prints."""
    return {"cluster": cluster, "plans": as_json(plans)}


def as_json(plans: Sequence[Plan]) -> list[dict[str, object]]:
    """For ``-o json``."""
    return [
        {
            "phase": plan.phase,
            "unknown": plan.unknown,
            "notes": list(plan.notes),
            "changes": [
                {
                    "target": change.target,
                    "action": change.action,
                    "summary": change.summary,
                    "because": [{"file": s.file, "line": s.line, "field": s.field} for s in change.because],
                    "before": change.before,
                    "after": change.after,
                    "disruption": change.disruption,
                    "losesData": change.loses_data,
                    "consent": change.consent,
                }
                for change in plan.changes
            ],
        }
        for plan in plans
    ]
