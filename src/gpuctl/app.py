"""The one place where the parts are put together: options in, a Context, a run, an exit code."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpuctl.context import Consent, Context
from gpuctl.phases.base import Change, Phase, Plan
from gpuctl.report import events as observers
from gpuctl.report import plan as plan_report
from gpuctl.run import children, signals
from gpuctl.run.errors import Exit, GpuctlError, Interrupted
from gpuctl.run.events import Event
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import Workspace
from gpuctl.spec.findings import Finding, count
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.units import counted

if TYPE_CHECKING:
    from gpuctl.verify.base import Result
    from gpuctl.verify.run import Choice, Report

# a Terraform that was asked to stop ends its VMs first
SETTLE_SECONDS = 1800.0


@dataclass(frozen=True)
class Options:
    """What every command that looks at a cluster is given. ``command`` is what the operator typed.

    ``quiet``: of what happens, only warnings are shown.
    """

    spec: Path
    site: Path | None = None
    json: bool = False
    yes: bool = False
    consent: Consent = field(default_factory=Consent)
    command: str = "gpuctl"
    quiet: bool = False
    patience: float = 1.0

    @property
    def rest(self) -> str:
        """The options to repeat in a suggested next command."""
        spec = "" if self.spec == Path("cluster.yaml") else f" {shlex.quote(str(self.spec))}"
        return spec + (f" --site {shlex.quote(str(self.site))}" if self.site else "")


class SpecInvalid(GpuctlError):
    """The spec has errors; the lines are the findings."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        errors = counted(count(findings, "error"), "error")
        super().__init__(f"{errors} in the spec; nothing was touched", exit_code=Exit.USAGE)
        self.findings = tuple(findings)

    def lines(self) -> list[str]:
        return [*map(str, self.findings), *super().lines()]

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "findings": [finding.to_json() for finding in self.findings]}


def load_spec(options: Options) -> Resolved:
    """The resolved spec; SpecInvalid with every finding when it has errors."""
    from gpuctl.spec.load import load

    loaded = load(options.spec, options.site)
    if loaded.resolved is None or count(loaded.findings, "error"):
        raise SpecInvalid(loaded.findings)
    return loaded.resolved


@contextmanager
def session(options: Options, *, mutates: bool) -> Iterator[Context]:
    """A run on a cluster: observers, log file, signals, and for mutating runs the lock and the children left behind.

    Any error while a signal is pending becomes Interrupted: what failed, failed because we were asked to stop.
    """
    started = time.monotonic()
    spec = load_spec(options)
    workspace = Workspace.of(options.spec, spec.name, spec.endpoint_name)
    workspace.create()
    redactor, stop = Redactor(), signals.Stop()
    log = observers.LogFile(workspace.new_log())
    seen: list[observers.Observer] = [log, _presenter(options, mutates=mutates)]
    emit = observers.fan_out(seen, redactor)
    ctx = Context(spec, workspace, emit, redactor, stop.flag, options.consent, options.patience)
    try:
        with signals.handled(stop, lambda text: emit(Event("warning", text))):
            ctx.say("log", "started", command=options.command, cluster=spec.name, endpoint=spec.site.proxmox.endpoint)
            try:
                if mutates:
                    with workspace.lock(options.command):
                        _settle(ctx)
                        yield ctx
                else:
                    yield ctx
            except (GpuctlError, OSError) as error:
                if stop.signal_name and not isinstance(error, Interrupted):
                    raise Interrupted(stop.signal_name, options.command) from error
                raise
            except KeyboardInterrupt:
                raise Interrupted(stop.signal_name or "SIGINT", options.command) from None
            if stop.signal_name:
                raise Interrupted(stop.signal_name, options.command)
    except GpuctlError as error:
        error.what, error.where = redactor.clean(error.what), redactor.clean(error.where)
        error.cause, error.next = redactor.clean(error.cause), redactor.clean(error.next)
        ctx.say("error", error.what, where=error.where, cause=error.cause, next=error.next, exit=int(error.exit_code))
        error.add_note(f"log     {log.path}")
        raise
    finally:
        ctx.say("log", f"ended after {time.monotonic() - started:.1f} s")
        for observer in seen:
            with suppress(OSError):  # it could not write before either
                observer.close()


def _settle(ctx: Context) -> None:
    deadline = ctx.deadline(SETTLE_SECONDS, "waiting for what a killed run left behind")
    children.settle(ctx.workspace, deadline, lambda text: ctx.say("warning", text))


def _presenter(options: Options, *, mutates: bool) -> observers.Observer:
    # what a mutating run says is its result; elsewhere it is progress, which must not mix with the result on stdout
    if options.quiet:
        return observers.Warnings(sys.stderr)
    if mutates and options.json:
        return observers.Ndjson(sys.stdout)
    return observers.for_people(sys.stdout if mutates else sys.stderr)


def where(spec: Resolved) -> str:
    """``homelab at pve.example`` plus what is simulated there, in brief (reports have it in full)."""
    names = [what.split(" (")[0] for what in spec.site.simulated]
    simulated = f" (simulated: {', '.join(names)})" if names else ""
    return f"{spec.name} at {spec.endpoint_name}{simulated}"


def chosen(names: Sequence[str]) -> tuple[Phase, ...]:
    """The phases of these names in their order; all when none is named. GpuctlError: there is no such phase."""
    from gpuctl.phases import PHASES

    known = [phase.name for phase in PHASES]
    if unknown := sorted(set(names) - set(known)):
        raise GpuctlError(
            f"no such phase: {', '.join(unknown)}", next=f"one of {', '.join(known)}", exit_code=Exit.USAGE
        )
    return tuple(phase for phase in PHASES if not names or phase.name in names)


def plan(ctx: Context, phases: Sequence[Phase]) -> list[Plan]:
    """Plan each phase as far as it can be known now; changes nothing."""
    plans: list[Plan] = []
    for phase in phases:
        ctx.say("log", "planning", phase=phase.name)
        if later := [made.phase for made in plans if made.unknown]:
            plans.append(Plan(phase.name, unknown=f"after {later[-1]}"))
            continue
        made = phase.plan(ctx)
        if not made.unknown and (
            earlier := [p.phase for p in plans if any(_new_machine(change) for change in p.changes)]
        ):
            made = replace(
                made, changes=(), notes=(), unknown=f"after {', '.join(earlier)}: some hosts will be new machines"
            )
        plans.append(made)
        _stop_if_asked(ctx)
    return plans


def _new_machine(change: Change) -> bool:
    """Whether what a later phase observes now says nothing about what it will find."""
    return change.action in ("create", "replace") and change.target.startswith(("vm/", "host/"))


def apply(ctx: Context, phases: Sequence[Phase], agree: Callable[[Sequence[Plan], bool], None]) -> int:
    """Plan and apply each phase in order; returns the number of changes made.

    ``agree(plans, disruptive)`` shows plans and raises unless the operator consents. It is asked first with all that
    can be known, then again only for a plan that was unknown before and disturbs or loses something.
    """
    ctx.say("run.started", where(ctx.spec))
    first = plan(ctx, phases)
    if any(not made.empty for made in first):
        agree(first, False)
    done = 0
    for phase, shown in zip(phases, first, strict=True):
        started = time.monotonic()
        ctx.say("phase.started", phase.title, phase=phase.name)
        # facts go stale: what was planned before an earlier phase changed something is planned anew
        made = shown if not shown.unknown and done == 0 else phase.plan(ctx)
        _refuse_without_consent(made)
        if made.unknown:
            raise GpuctlError(
                f"{phase.name} cannot be planned: {made.unknown}",
                cause="an earlier phase did not leave what this one needs",
                next="gpuctl apply (all phases)",
            )
        if shown.unknown and any(change.disruption or change.loses_data for change in made.changes):
            agree([made], True)
        if made.changes:
            _show(ctx, [made])
            phase.apply(ctx, made)
            done += len(made.changes)
        _stop_if_asked(ctx)
        outcome = f"{len(made.changes)} changes" if made.changes else "nothing to change"
        seconds = time.monotonic() - started
        ctx.say(
            "phase.finished",
            f"{phase.name} done: {outcome}  {observers.clock(seconds)}",
            phase=phase.name,
            changes=len(made.changes),
            seconds=round(seconds, 3),
        )
    if {"provision", "bootstrap"} & {phase.name for phase in phases}:
        ctx.workspace.forget_replaced()
    return done


def _refuse_without_consent(made: Plan) -> None:
    missing = sorted({change.consent for change in made.changes if change.consent})
    if missing:
        named = ", ".join(change.target for change in made.changes if change.consent)
        raise GpuctlError(
            f"this plan replaces or removes {named}, which needs consent by name",
            cause="\n".join(f"{c.target}: {c.summary}" for c in made.changes if c.consent),
            next=f"the same command with {' '.join(missing)}",
            exit_code=Exit.USAGE,
        )


def _show(ctx: Context, plans: Sequence[Plan]) -> None:
    for made in plans:
        ctx.say("phase.planned", plan_report.summary([made]), phase=made.phase, plan=plan_report.as_json([made])[0])


def _stop_if_asked(ctx: Context) -> None:
    if ctx.stop.is_set():
        raise GpuctlError("stopped")


def verify(ctx: Context, choice: Choice | None = None, settle: float = 0.0) -> Report:
    """Run the checks (all general ones by default) and emit one event each.

    ``settle``: seconds in which what is not true yet is measured again.
    """
    from gpuctl.verify.run import Choice
    from gpuctl.verify.run import verify as run_checks

    ctx.say("phase.started", "checks against the live cluster", phase="verify")
    report = run_checks(ctx, choice or Choice(), settle=settle)
    for result in report.results:
        _say_check(ctx, result)
    ctx.say("phase.finished", f"{len(report.results)} checks  {observers.clock(report.seconds)}", phase="verify")
    return report


def watch(ctx: Context, choice: Choice, every: float) -> Iterator[Report]:
    """A report of every round until the run is stopped; a round that is cut short is not reported."""
    from gpuctl.report import changes
    from gpuctl.verify.run import verify as run_checks

    last: Report | None = None
    while not ctx.stop.is_set():
        try:
            report = run_checks(ctx, choice)
        except GpuctlError as error:
            if error.exit_code != Exit.LOCKED:
                raise
            ctx.say("warning", f"{error.what}: this round is left out", phase="verify")
        else:
            if ctx.stop.is_set():
                return
            for _, result in changes.changed(last, report):
                _say_check(ctx, result)
            yield report
            last = report
        ctx.stop.wait(every)


def _say_check(ctx: Context, result: Result) -> None:
    measurement = result.measurement
    ctx.say(
        "check",
        f"{result.check.id} {measurement.outcome}: {measurement.measured}",
        phase="verify",
        target=result.check.id,
        outcome=measurement.outcome,
        measured=measurement.measured,
        limit=measurement.limit,
        reason=measurement.reason,
    )


def show_report(report: Report, options: Options) -> None:
    """The verify report on stdout: a table, or JSON."""
    if options.json:
        print(json.dumps(report.to_json()))
        return
    from rich.console import Console

    from gpuctl.report import table

    console = Console(highlight=False)
    if not sys.stdout.isatty():
        console.width = max(console.width, 140)
    table.render(report, console)


def write_report(path: Path, text: str | bytes) -> None:
    """Write a report file; GpuctlError when the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    except OSError as error:
        raise GpuctlError(f"cannot write {path}: {error.strerror}", where=str(path)) from error
