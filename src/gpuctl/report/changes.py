"""What changed between two rounds of verify --watch: one line per check whose outcome is another one than before."""

from __future__ import annotations

import json

from gpuctl.report.events import SCHEMA_VERSION
from gpuctl.verify.base import Result
from gpuctl.verify.run import Report


def changed(before: Report | None, after: Report) -> list[tuple[str, Result]]:
    """(outcome before, result) of every check that changed; all, with "" before, when there is no earlier round."""
    was = {result.check.id: result.measurement.outcome for result in before.results} if before else {}
    pairs = [(str(was.get(result.check.id, "")), result) for result in after.results]
    return [(outcome, result) for outcome, result in pairs if outcome != result.measurement.outcome]


def lines(before: Report | None, after: Report) -> list[str]:
    """For people; the first round is summed up, and only what does not pass is named."""
    at = after.time[11:19]
    shown = []
    if before is None:
        counts = " . ".join(f"{name} {count}" for name, count in after.summary.items() if count)
        shown.append(f"{at} {after.cluster} at {after.endpoint}: {counts} of {len(after.results)} checks")
    for was, result in changed(before, after):
        measurement = result.measurement
        if was or measurement.outcome in ("fail", "unknown"):
            before_it = f" (was {was})" if was else ""
            detail = measurement.reason or measurement.measured
            shown.append(f"{at} {result.check.id} {measurement.outcome}{before_it}: {detail}")
    return shown


def records(before: Report | None, after: Report) -> list[str]:
    """For machines: one JSON object a line; the first round is one record per check, ``was`` empty."""
    return [
        json.dumps(
            {
                "schemaVersion": SCHEMA_VERSION,
                "kind": "check",
                "time": after.time,
                "id": result.check.id,
                "was": was,
                "outcome": result.measurement.outcome,
                "measured": result.measurement.measured,
                "limit": result.measurement.limit,
                "reason": result.measurement.reason,
            }
        )
        for was, result in changed(before, after)
    ]
