"""The verify report as one HTML file without scripts or anything from elsewhere, with a drawing of the cluster.

The template places text; where the parts of the drawing go is reckoned here, in the drawing's own units.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby

from gpuctl.report import table
from gpuctl.report.events import clock
from gpuctl.run.errors import Exit
from gpuctl.spec import units
from gpuctl.verify.base import GROUPS
from gpuctl.verify.picture import Card, Machine, Pod
from gpuctl.verify.run import Report

WIDTH, MARGIN, GAP, COLUMNS = 1160, 20, 14, 4
HEAD, CARD_HEIGHT, LINE, FOOT = 70, 40, 19, 10
# what fits: pods as dots, lines of namespaces
DOTS, LINES = 14, 6
VERDICTS = {
    Exit.OK: "Every check that was measured passed",
    Exit.CHECK_FAILED: "Not as the spec promises",
    Exit.VERIFY_INCOMPLETE: "Not proven: some checks could not be judged",
}


@dataclass(frozen=True)
class Slot:
    """A card's place in its node's box; ``card`` None: the driver does not list it, or (``looked`` False) who knows."""

    x: float
    y: float
    width: float
    card: Card | None
    looked: bool

    @property
    def state(self) -> str:
        """proven, unproven, missing or unknown."""
        return self.card.proof if self.card else "missing" if self.looked else "unknown"

    @property
    def tail(self) -> str:
        """The end of the UUID, which tells cards apart."""
        return self.card.uuid[-8:] if self.card else ""


@dataclass(frozen=True)
class Row:
    """A line of pods: a holder of cards by itself, or a namespace with a dot a pod. ``more``: pods without a dot."""

    y: float
    label: str
    gpus: int
    dots: tuple[Pod, ...]
    more: int


@dataclass(frozen=True)
class Box:
    """A node."""

    x: float
    y: float
    width: float
    height: float
    machine: Machine
    slots: tuple[Slot, ...]
    rows: tuple[Row, ...]

    @property
    def state(self) -> str:
        """good, bad or unknown."""
        states = (self.machine.vm, self.machine.kubernetes)
        if states == ("running", "Ready"):
            return "good"
        return "unknown" if "unknown" in states and not {"stopped", "absent", "NotReady"} & set(states) else "bad"


def render(report: Report) -> str:
    """The page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["size"] = units.show_size
    source = (files("gpuctl.report") / "report.html.j2").read_text(encoding="utf-8")
    boxes = layout(report.picture.machines)
    groups = [(name, [r for r in report.results if r.check.group == name]) for name in GROUPS]
    return environment.from_string(source).render(
        report=report,
        verdict=VERDICTS[report.exit_code],
        duration=clock(report.seconds),
        problems=table.folded(report.results),
        left_out=table.left_out(report.results),
        groups=[(name, results) for name, results in groups if results],
        boxes=boxes,
        width=WIDTH,
        margin=MARGIN,
        height=max((box.y + box.height for box in boxes), default=0) + MARGIN,
    )


def layout(machines: tuple[Machine, ...]) -> list[Box]:
    """Boxes in rows of one role each (a small cluster is one row), all of a row as high as its highest."""
    rows = [list(group) for _, group in groupby(machines, key=lambda machine: machine.role)]
    if len(machines) <= COLUMNS:
        rows = [list(machines)]
    columns = max(2, min(COLUMNS, max(len(row) for row in rows)))
    width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
    boxes: list[Box] = []
    y = 64.0
    for row in rows:
        for first in range(0, len(row), columns):
            placed = [
                _box(MARGIN + place * (width + GAP), y, width, machine)
                for place, machine in enumerate(row[first : first + columns])
            ]
            height = max(box.height for box in placed)
            boxes += [Box(b.x, b.y, b.width, height, b.machine, b.slots, b.rows) for b in placed]
            y += height + GAP
    return boxes


def _box(x: float, y: float, width: float, machine: Machine) -> Box:
    bottom = y + HEAD
    slots = []
    listed = machine.cards or ()
    cards: list[Card | None] = [*listed, *[None] * (machine.gpus - len(listed))]
    each = (width - 3 * 12) / 2
    for number, card in enumerate(cards):
        place = (x + 12 + (number % 2) * (each + 12), bottom + (number // 2) * (CARD_HEIGHT + 8))
        slots.append(Slot(*place, each, card, machine.cards is not None))
    bottom += (len(cards) + 1) // 2 * (CARD_HEIGHT + 8)
    rows = []
    for label, gpus, pods in _lines(machine.pods):
        bottom += LINE
        rows.append(Row(bottom, label, gpus, tuple(pods[:DOTS]), max(0, len(pods) - DOTS)))
    return Box(x, y, width, bottom + FOOT - y, machine, tuple(slots), tuple(rows))


def _lines(pods: tuple[Pod, ...]) -> list[tuple[str, int, list[Pod]]]:
    """Holders of cards first, one line each; then namespaces; what does not fit is one last line."""
    lines = [(pod.name, pod.gpus, [pod]) for pod in pods if pod.gpus]
    rest = [pod for pod in pods if not pod.gpus]
    lines += [(name, 0, list(group)) for name, group in groupby(rest, key=lambda pod: pod.namespace)]
    if len(lines) <= LINES:
        return lines
    hidden = [pod for _, _, group in lines[LINES - 1 :] for pod in group]
    return [*lines[: LINES - 1], (f"{len(lines) - LINES + 1} more", sum(pod.gpus for pod in hidden), hidden)]
