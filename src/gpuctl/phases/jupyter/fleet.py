"""Releases that Fleet owns: gpuctl waits until they are what the spec wants, and never touches them."""

from __future__ import annotations

from gpuctl.context import Context
from gpuctl.phases import releases
from gpuctl.phases.base import Change
from gpuctl.phases.manage import bundles
from gpuctl.phases.steps import Step
from gpuctl.render.charts import Release
from gpuctl.run.errors import GpuctlError
from gpuctl.systems.helm import OWNER

SYNC_SECONDS = 900.0


def steps(ctx: Context, bundle: str, wanted: Release | None) -> list[Step]:
    """The wait for Fleet, if it has not brought the wanted release yet. GpuctlError when it is still gpuctl's."""
    if wanted is None:
        return []
    installed = ctx.helm.installed().get(f"{wanted.namespace}/{wanted.name}")
    if installed is not None and OWNER in installed.labels:
        raise GpuctlError(
            f"the release {wanted.name} is still gpuctl's, the spec gives it to Fleet",
            where=f"namespace {wanted.namespace}",
            cause="a release has one owner; two would undo each other's work",
            next=f"gpuctl gitops adopt {bundle}",
        )
    behind = _behind(ctx, wanted)
    if not behind:
        return []
    proposal = bundles.propose(ctx, bundles.wanted(ctx))
    if commit := proposal.theirs.get(bundle):
        # changed or reverted in the repository by others, which is said and not fought
        ctx.say("warning", f"{bundle} is as commit {commit} has it: see gpuctl gitops push", phase="jupyter")
        return []
    first = "; the phase manage gives it to the repository first" if bundle in proposal.changes else ""

    def run() -> None:
        if bundle in bundles.propose(ctx, bundles.wanted(ctx)).changes:
            raise GpuctlError(
                f"the repository does not have the bundle {bundle} as the spec wants it",
                where=f"{bundles.gitops_of(ctx.spec).repo}, namespace {wanted.namespace}",
                cause=f"the spec was changed and nothing was pushed since: {behind}",
                next="gpuctl manage pushes it and waits for Fleet (gpuctl gitops push only pushes)",
            )
        deadline = ctx.deadline(SYNC_SECONDS, f"waiting for Fleet to bring {wanted.name}")
        words = behind
        for _ in deadline.ticks(2.0):
            words = _behind(ctx, wanted)
            if not words:
                releases.wait(ctx, "jupyter", wanted)
                return
            ctx.say("progress", f"{wanted.name}: {words}", phase="jupyter", target=f"fleet/{bundle}")
        raise GpuctlError(
            f"{deadline.what}: not done within {deadline.seconds:.0f} s",
            where=f"namespace {wanted.namespace}",
            cause=words,
            next="gpuctl manage says how Fleet is doing",
        )

    return [Step(Change(f"fleet/{bundle}", "update", f"wait for Fleet: {behind}{first}"), run)]


def _behind(ctx: Context, wanted: Release) -> str:
    installed = ctx.helm.installed().get(f"{wanted.namespace}/{wanted.name}")
    if installed is None:
        return f"there is no {wanted.chart} {wanted.version} yet"
    return ", ".join(releases.differences(installed, wanted))
