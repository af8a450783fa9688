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
    if not behind or _left_to_others(ctx, bundle):
        return []

    def run() -> None:
        deadline = ctx.deadline(SYNC_SECONDS, f"waiting for Fleet to bring {wanted.name}")
        words = behind
        for _ in deadline.ticks(2.0):
            words = _behind(ctx, wanted)
            if not words:
                releases.wait(ctx, "jupyter", wanted)
                return
            ctx.say("progress", f"{wanted.name}: {words}", phase="jupyter", target=f"fleet/{bundle}")
        if ctx.stop.is_set():
            raise GpuctlError(f"{deadline.what}: interrupted")
        raise GpuctlError(
            f"{deadline.what}: not done within {deadline.seconds:.0f} s",
            where=f"namespace {wanted.namespace}",
            cause=words,
            next="gpuctl gitops push, if the repository is behind the spec; gpuctl manage says how Fleet is doing",
        )

    return [Step(Change(f"fleet/{bundle}", "update", f"wait for Fleet: {behind}"), run)]


def _left_to_others(ctx: Context, bundle: str) -> bool:
    """Whether somebody changed or reverted the bundle in the repository, which is said and not fought."""
    commit = bundles.propose(ctx, bundles.wanted(ctx)).theirs.get(bundle)
    if commit:
        ctx.say("warning", f"{bundle} is as commit {commit} has it: see gpuctl gitops push", phase="jupyter")
    return commit is not None


def _behind(ctx: Context, wanted: Release) -> str:
    installed = ctx.helm.installed().get(f"{wanted.namespace}/{wanted.name}")
    if installed is None:
        return f"there is no {wanted.chart} {wanted.version} yet"
    return ", ".join(releases.differences(installed, wanted))
