"""What a phase is. Deciding (``plan``) and doing (``apply``) are apart: apply carries out the plan it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gpuctl.spec.resolved import SpecPath

if TYPE_CHECKING:
    from gpuctl.context import Context

Action = Literal["create", "update", "restart", "replace", "remove"]


@dataclass(frozen=True)
class Change:
    """One change to one target, e.g. ``vm/wk-gpu1``.

    ``summary`` is one line (``4 cpus, 16 GiB``; ``k3s v1.34.4 -> v1.34.5``); ``before``/``after`` hold the detail
    (a unified diff or values) where there is any. ``disruption`` says in words what stops working meanwhile, "" for
    nothing. ``consent`` names the option without which the change is refused (``--replace cp2``), "" for none.
    """

    target: str
    action: Action
    summary: str
    because: tuple[SpecPath, ...] = ()
    before: str = ""
    after: str = ""
    disruption: str = ""
    loses_data: bool = False
    consent: str = ""


@dataclass(frozen=True)
class Plan:
    """What a phase would do. ``unknown`` says why it cannot be known yet (the hosts do not exist).

    ``payload`` is the phase's own decided material, handed back to ``apply`` untouched; ``artifact`` a saved plan file.
    ``notes`` are lines to show that are not changes (what was observed, warnings).
    """

    phase: str
    changes: tuple[Change, ...] = ()
    unknown: str = ""
    artifact: Path | None = None
    payload: Any = None
    notes: tuple[str, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Nothing to do and nothing unknown."""
        return not self.changes and not self.unknown


class Phase(Protocol):
    """A step from bare Proxmox to a verified cluster."""

    name: str
    title: str

    def plan(self, ctx: Context) -> Plan:
        """Observe and decide; mutates nothing outside the workspace. Raises GpuctlError."""

    def apply(self, ctx: Context, plan: Plan) -> None:
        """Carry out exactly this plan; safe to abandon at any moment and to run again. Raises GpuctlError."""
