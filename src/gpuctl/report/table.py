"""The verify report for people: one table by group; what failed first in the summary, with cause and next command."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpuctl.verify.base import GROUPS, Result
from gpuctl.verify.run import Report

STYLES = {"pass": "green", "fail": "bold red", "unknown": "yellow", "skipped": "dim"}


def render(report: Report, console: Console) -> None:
    """Print the table and the summary."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, ratio in (("", None), ("check", None), ("claim", 5), ("measured", 4), ("limit", 4)):
        table.add_column(title, ratio=ratio, no_wrap=ratio is None, overflow="fold")
    for group in GROUPS:
        members = [result for result in report.results if result.check.group == group]
        if members:
            table.add_row(f"[bold]{group}[/bold]", "", "", "", "")
        for result in members:
            check, measurement = result.check, result.measurement
            style = STYLES[measurement.outcome]
            table.add_row(
                f"  [{style}]{measurement.outcome}[/{style}]",
                check.id,
                escape(check.claim),
                escape(measurement.measured),
                escape(measurement.limit),
            )
    console.print(table)
    console.print()
    for line in problems(report.results):
        console.print(escape(line), soft_wrap=True)
    counts = " . ".join(f"{name} {count}" for name, count in report.summary.items() if count)
    console.print(f"{report.cluster} at {report.endpoint}: {counts} of {len(report.results)} checks", soft_wrap=True)
    for reason, ids in left_out(report.results).items():
        console.print(f"not measured: {escape(reason)}: {', '.join(ids)}", soft_wrap=True)
    if report.simulated:
        console.print(f"simulated here: {escape(', '.join(report.simulated))}", soft_wrap=True)


def folded(results: Sequence[Result]) -> list[list[Result]]:
    """What is not proven, failures first; results with the same cause are one group."""
    groups: dict[str, list[Result]] = {}
    for outcome in ("fail", "unknown"):
        for result in results:
            measurement = result.measurement
            if measurement.outcome == outcome:
                groups.setdefault(measurement.cause or result.check.id, []).append(result)
    return list(groups.values())


def left_out(results: Sequence[Result]) -> dict[str, list[str]]:
    """Ids of what was not measured, by reason."""
    found: dict[str, list[str]] = {}
    for result in results:
        if result.measurement.outcome == "skipped":
            found.setdefault(result.measurement.reason, []).append(result.check.id)
    return found


def problems(results: Sequence[Result]) -> list[str]:
    """What is not proven, in words."""
    shown: list[str] = []
    for group in folded(results):
        first = group[0].measurement
        ids = ", ".join(result.check.id for result in group)
        shown.append(f"{first.outcome} {ids}: {first.reason}")
        if first.next:
            shown.append(f"  next    {first.next}")
    return [*shown, ""] if shown else []
