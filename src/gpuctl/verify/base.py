"""What a check is: a claim of the spec, judged purely from facts that were gathered once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gpuctl.spec.resolved import Resolved

if TYPE_CHECKING:
    from gpuctl.verify.facts import Facts

Outcome = Literal["pass", "fail", "skipped", "unknown"]
Group = Literal["infra", "cluster", "gpu", "management", "applications", "security"]
Need = Literal["proxmox", "terraform", "hosts", "kubernetes", "probes"]


@dataclass(frozen=True)
class Measurement:
    """What was measured, against which limit. Only ``pass`` is a pass; the reason of anything else is never empty.

    ``cause`` names what it is a consequence of (``node/wk-gpu2 unreachable``): results with the same cause are folded.
    """

    outcome: Outcome
    measured: str
    limit: str = ""
    reason: str = ""
    cause: str = ""
    next: str = ""


@dataclass(frozen=True)
class Check:
    """``id`` as in the catalogue (INF-01); ``claim`` in words; ``needs``: which facts; ``source``: of the limit."""

    id: str
    group: Group
    claim: str
    needs: tuple[Need, ...]
    judge: Callable[[Resolved, Facts], Measurement]
    source: str = ""


@dataclass(frozen=True)
class Result:
    """A judged check."""

    check: Check
    measurement: Measurement
    seconds: float = field(default=0.0)
