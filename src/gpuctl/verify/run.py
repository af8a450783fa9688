"""Choose the checks, gather what they need, judge. The same facts give the same report."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gpuctl.context import Context
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify import gather
from gpuctl.verify.base import Check, Measurement, Result
from gpuctl.verify.checks import ALL
from gpuctl.verify.facts import Facts

SCHEMA_VERSION = 1
SETTLE_EVERY = 10.0
OUTCOMES = ("pass", "fail", "unknown", "skipped")


@dataclass(frozen=True)
class Report:
    """Everything one run of verify says. ``time`` is UTC (ISO 8601)."""

    cluster: str
    endpoint: str
    simulated: tuple[str, ...]
    time: str
    seconds: float
    results: tuple[Result, ...]

    @property
    def summary(self) -> dict[str, int]:
        """Results by outcome."""
        return {name: sum(r.measurement.outcome == name for r in self.results) for name in OUTCOMES}

    @property
    def exit_code(self) -> Exit:
        """A failed check weighs more than one that could not be judged; one the operator skipped weighs nothing."""
        summary = self.summary
        return Exit.CHECK_FAILED if summary["fail"] else Exit.VERIFY_INCOMPLETE if summary["unknown"] else Exit.OK

    def to_json(self) -> dict[str, Any]:
        """The versioned form for machines."""
        return {
            "schemaVersion": SCHEMA_VERSION,
            "cluster": self.cluster,
            "endpoint": self.endpoint,
            "simulated": list(self.simulated),
            "time": self.time,
            "seconds": round(self.seconds, 1),
            "summary": self.summary,
            "checks": [
                {
                    "id": result.check.id,
                    "group": result.check.group,
                    "claim": result.check.claim,
                    "outcome": result.measurement.outcome,
                    "measured": result.measurement.measured,
                    "limit": result.measurement.limit,
                    "source": result.check.source,
                    "reason": result.measurement.reason,
                    "cause": result.measurement.cause,
                    "next": result.measurement.next,
                }
                for result in self.results
            ],
        }


def verify(ctx: Context, *, only: Sequence[str] = (), skip: Sequence[str] = (), settle: float = 0.0) -> Report:
    """Judge the chosen checks (ids or groups) on the live cluster. GpuctlError: unknown id, or another verify runs.

    For ``settle`` seconds what is not true yet is measured again: a cluster that was just changed comes to rest.
    """
    wanted, skipped = _names(only), _names(skip)
    chosen = [check for check in ALL if not only or {check.id, check.group} & wanted]
    judging = [check for check in chosen if not {check.id, check.group} & skipped]
    started, now = time.monotonic(), datetime.now(UTC)
    judgements = dict.fromkeys(chosen, Measurement("skipped", "not measured", reason="left out by --skip"))
    resting = ctx.deadline(settle, "letting the cluster come to rest")
    with _alone(ctx):
        while judging:
            applying = [check for check in judging if not check.applies(ctx.spec)]
            facts = gather.facts(ctx, {need for check in applying for need in check.needs})
            judgements.update((check, judge(check, ctx.spec, facts)) for check in judging)
            judging = [check for check in judging if judgements[check].outcome in ("fail", "unknown")]
            if not judging or resting.expired or ctx.stop.is_set():
                break
            ids = ", ".join(check.id for check in judging)
            ctx.say("progress", f"not true yet, measured again: {ids}", phase="verify")
            ctx.stop.wait(min(SETTLE_EVERY, resting.left))
    results = tuple(Result(check, judgement) for check, judgement in judgements.items())
    spec = ctx.spec
    return Report(
        spec.name, spec.endpoint_name, spec.site.simulated, f"{now:%FT%TZ}", time.monotonic() - started, results
    )


def judge(check: Check, spec: Resolved, facts: Facts) -> Measurement:
    """The check's own verdict; unknown when a source it needs did not answer, or answered something unheard of."""
    if reason := check.applies(spec):
        return Measurement("skipped", "nothing to measure", reason=reason)
    for need in check.needs:
        source = getattr(facts, need)
        if isinstance(source, GpuctlError):
            reason = source.what + (f" ({source.cause.splitlines()[-1]})" if source.cause else "")
            return Measurement("unknown", "not measured", reason=reason, cause=source.what, next=source.next)
    try:
        return check.judge(spec, facts)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"what was observed has an unexpected shape: {type(error).__name__}: {error}"
        return Measurement("unknown", "not judged", reason=reason, next="please report this, with the run's log")


def _names(given: Sequence[str]) -> set[str]:
    known = {check.id for check in ALL} | {check.group for check in ALL}
    found = {name.upper() if name.upper() in known else name.lower() for name in given}
    if unknown := sorted(found - known):
        raise GpuctlError(
            f"there is no check or group {unknown[0]!r}",
            cause=f"known: {', '.join(sorted(known))}",
            exit_code=Exit.USAGE,
        )
    return found


@contextmanager
def _alone(ctx: Context) -> Iterator[None]:
    """One verify per workspace at a time: it removes the probes that a killed one left behind."""
    path = ctx.workspace.root / "verify.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise GpuctlError(
            "another gpuctl verify is looking at this cluster",
            where=str(path),
            next="wait for it to end",
            exit_code=Exit.LOCKED,
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
