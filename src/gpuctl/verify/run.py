"""Choose the checks, gather what they need, judge. The same facts give the same report."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from gpuctl.context import Context
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify import gather
from gpuctl.verify.base import GROUPS, Check, Measurement, Result
from gpuctl.verify.checks import ALL, STRESS
from gpuctl.verify.facts import Facts
from gpuctl.verify.picture import Picture, draw

SCHEMA_VERSION = 1
SETTLE_EVERY = 10.0
OUTCOMES = ("pass", "fail", "unknown", "skipped")


@dataclass(frozen=True)
class Choice:
    """Which checks, by id or group. ``quick``: not those that start pods; ``gpu_stress``: the opt-in ones too."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    quick: bool = False
    gpu_stress: bool = False

    def checks(self) -> dict[Check, str]:
        """The chosen checks, each with the reason why it is left out, "" when it is judged. GpuctlError: unknown id."""
        only, skip = _names(self.only), _names(self.skip)
        if not self.gpu_stress and (opt_in := sorted(only & {check.id for check in STRESS})):
            raise GpuctlError(
                f"{opt_in[0]} loads the cards for minutes and is measured on request only",
                next=f"gpuctl verify --gpu-stress --only {opt_in[0]}",
                exit_code=Exit.USAGE,
            )
        known = sorted((*ALL, *STRESS), key=lambda c: (GROUPS.index(c.group), c.id)) if self.gpu_stress else ALL
        chosen = [check for check in known if not only or {check.id, check.group} & only]
        return {check: self._left_out(check, skip) for check in chosen}

    def _left_out(self, check: Check, skip: set[str]) -> str:
        if {check.id, check.group} & skip:
            return "left out by --skip"
        return "left out by --quick" if self.quick and not check.quick else ""


@dataclass(frozen=True)
class Report:
    """Everything one run of verify says. ``time`` is UTC (ISO 8601)."""

    cluster: str
    endpoint: str
    simulated: tuple[str, ...]
    time: str
    seconds: float
    results: tuple[Result, ...]
    picture: Picture = field(default_factory=Picture)

    @property
    def summary(self) -> dict[str, int]:
        """Results by outcome."""
        return {name: sum(r.measurement.outcome == name for r in self.results) for name in OUTCOMES}

    @property
    def exit_code(self) -> Exit:
        """A failed check weighs more than one that could not be judged; one the operator left out weighs nothing."""
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
            "picture": asdict(self.picture),
        }


def verify(ctx: Context, choice: Choice = Choice(), *, settle: float = 0.0) -> Report:
    """Judge the chosen checks on the live cluster. GpuctlError: unknown id, or another verify runs.

    For ``settle`` seconds after that what is not true yet is measured again: a cluster that was just changed comes to
    rest.
    """
    chosen = choice.checks()
    judging = [check for check, left_out in chosen.items() if not left_out]
    started, now = time.monotonic(), datetime.now(UTC)
    judgements = {check: Measurement("skipped", "not measured", reason=reason) for check, reason in chosen.items()}
    resting: Deadline | None = None
    seen = Facts(time.time())
    with _alone(ctx):
        while judging:
            applying = [check for check in judging if not check.applies(ctx.spec)]
            facts = gather.facts(ctx, {need for check in applying for need in check.needs})
            seen = _newer(seen, facts)
            judgements.update((check, judge(check, ctx.spec, facts)) for check in judging)
            judging = [check for check in judging if judgements[check].outcome in ("fail", "unknown")]
            resting = resting or ctx.deadline(settle, "letting the cluster come to rest")
            if not judging or resting.expired or ctx.stop.is_set():
                break
            ids = ", ".join(check.id for check in judging)
            ctx.say("progress", f"not true yet, measured again: {ids}", phase="verify")
            ctx.stop.wait(min(SETTLE_EVERY, resting.left))
    results = tuple(Result(check, judgement) for check, judgement in judgements.items())
    spec = ctx.spec
    return Report(
        spec.name,
        spec.endpoint_name,
        spec.site.simulated,
        f"{now:%FT%TZ}",
        time.monotonic() - started,
        results,
        draw(spec, seen),
    )


def _newer(seen: Facts, facts: Facts) -> Facts:
    """What is known after another look, which need not be at every source."""
    return replace(seen, **{f.name: value for f in fields(facts) if (value := getattr(facts, f.name)) is not None})


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


def _names(given: tuple[str, ...]) -> set[str]:
    known = {name for check in (*ALL, *STRESS) for name in (check.id, check.group)}
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
