"""A release changes its owner without stopping: gpuctl's Helm gives it to Fleet, or Fleet gives it back.

Fleet upgrades a release of the name that fleet.yaml gives, whoever installed it; and leaves the objects of a bundle
with keepResources when the bundle goes. So a release is never uninstalled on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import yaml

from gpuctl.context import Context
from gpuctl.phases import releases
from gpuctl.phases.base import Change
from gpuctl.phases.manage import bundles, gitops
from gpuctl.phases.manage import fleet as live
from gpuctl.phases.steps import Step
from gpuctl.render import fleet
from gpuctl.render.charts import Release
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.systems.helm import GIVEN, OWNER, Installed


def plan(ctx: Context, name: str) -> list[Step]:
    """To Fleet when the spec lists the bundle, back to gpuctl when it does not; [] when its owner is the right one."""
    if name not in fleet.BUNDLES:
        raise GpuctlError(
            f"there is no bundle {name!r}", cause=f"known: {', '.join(fleet.BUNDLES)}", exit_code=Exit.USAGE
        )
    release, settings = fleet.BUNDLES[name].release(ctx.spec), bundles.gitops_of(ctx.spec)
    if release is None:
        raise GpuctlError(f"the spec gives the bundle {name} nothing to install", exit_code=Exit.USAGE)
    if fleet.BUNDLES[name].only_fleet:
        raise GpuctlError(
            f"{name} is installed by Fleet or by nobody",
            next="list it in management.gitops.bundles or do not, then gpuctl apply",
            exit_code=Exit.USAGE,
        )
    installed = ctx.helm.installed()
    have = installed.get(f"{release.namespace}/{release.name}")
    if have is None:
        raise GpuctlError(f"there is no release {release.name} to move", next="gpuctl apply installs it")
    bundle = settings.bundle_name(name)
    if have.bundle not in ("", bundle) or (not have.bundle and not _ours_or_given(ctx, have, bundle)):
        raise GpuctlError(
            f"the release {release.name} belongs neither to gpuctl nor to its bundle {bundle}",
            where=f"namespace {have.namespace}, chart {have.chart} {have.version}",
            cause=f"it belongs to Fleet's bundle {have.bundle}" if have.bundle else "it was not made by gpuctl",
            next="whoever made it gives it up first",
        )
    if ctx.spec.by_fleet(name):
        return [] if have.bundle else _to_fleet(ctx, name, bundle, have, installed)
    if have.bundle:
        return _to_gpuctl(ctx, name, bundle, release, have)
    return [] if have.labels.get(OWNER) else [_taken_back(ctx, bundle, have)]


def _taken_back(ctx: Context, bundle: str, have: Installed) -> Step:
    """A release that was given to Fleet, which never took it."""

    def run() -> None:
        labels = {OWNER: ctx.workspace.cluster_id, GIVEN: None}
        ctx.kubernetes.patch(have.record, {"metadata": {"labels": labels}})
        ctx.say("target", "is gpuctl's again", phase=gitops.PHASE, target=f"helm/{have.name}")

    words = f"its owner: given to Fleet's bundle {bundle}, which never took it -> gpuctl"
    return Step(Change(f"helm/{have.name}", "update", words), run)


def _ours_or_given(ctx: Context, have: Installed, bundle: str) -> bool:
    return have.labels.get(OWNER) == ctx.workspace.cluster_id or have.labels.get(GIVEN) == bundle


def _to_fleet(ctx: Context, name: str, bundle: str, have: Installed, installed: Mapping[str, Installed]) -> list[Step]:
    """The record is given up, then the bundle comes: Fleet finds a release without an owner and upgrades it."""

    def give() -> None:
        ctx.kubernetes.patch(have.record, {"metadata": {"labels": {OWNER: None, GIVEN: bundle}}})
        ctx.say("target", f"given to Fleet's bundle {bundle}", phase=gitops.PHASE, target=f"helm/{have.name}")

    labels = {key: value for key, value in have.labels.items() if key != OWNER} | {GIVEN: bundle}
    after = {**installed, f"{have.namespace}/{have.name}": replace(have, labels=labels)}
    # the others are left out whose owner has to be settled, too
    names = {
        other: release
        for other, release in fleet.releases(ctx.spec).items()
        if other == name or _settled(ctx, other, release, installed)
    }
    rest = gitops.steps(ctx, live.observe(ctx), after, names, tuple(names))
    if have.labels.get(GIVEN) == bundle and OWNER not in have.labels:  # Helm carries labels on to later revisions
        return rest
    words = f"its owner: gpuctl -> Fleet's bundle {bundle}; its workloads go on"
    return [Step(Change(f"helm/{have.name}", "update", words), give), *rest]


def _settled(ctx: Context, name: str, release: Release, installed: Mapping[str, Installed]) -> bool:
    have = installed.get(f"{release.namespace}/{release.name}")
    return have is None or have.bundle == bundles.gitops_of(ctx.spec).bundle_name(name)


def _to_gpuctl(ctx: Context, name: str, bundle: str, release: Release, have: Installed) -> list[Step]:
    """Fleet learns to keep the objects, then loses the bundle; then Helm here takes the release over."""
    settings, made = bundles.gitops_of(ctx.spec), []
    head = ctx.git.fetch()
    described = bundles.description(ctx, head, name)
    folder, target = f"{settings.path}/{name}", f"git/{settings.branch}"
    if described and not have.kept:
        files = {path: ctx.git.text(head, path).encode() for path in ctx.git.files(head, folder)}
        files[f"{folder}/fleet.yaml"] = yaml.safe_dump({**described, "keepResources": True}, sort_keys=False).encode()

        def keep() -> None:
            _put(ctx, name, {name: files})
            _until_kept(ctx, release, bundle)

        made.append(Step(Change(target, "update", f"{name} with keepResources: Fleet leaves its objects"), keep))
    if described or bundle in live.observe(ctx).bundles:

        def remove() -> None:
            _put(ctx, name, {})
            gitops.let_go(ctx, bundle)

        made.append(Step(Change(target, "update", f"{name} removed; what it installed stays"), remove))

    def take() -> None:
        chart, _ = ctx.helm.chart(release)
        ctx.helm.apply(release, chart)
        releases.wait(ctx, gitops.PHASE, release)
        ctx.say("target", f"taken over from Fleet's bundle {bundle}", phase=gitops.PHASE, target=f"helm/{release.name}")

    words = f"its owner: Fleet's bundle {bundle} -> gpuctl; its workloads go on"
    return [*made, Step(Change(f"helm/{release.name}", "update", words), take)]


def _put(ctx: Context, name: str, files: Mapping[str, Mapping[str, bytes]]) -> None:
    """The bundle as in these files, pushed; nothing happens when it is so already."""
    proposal = bundles.propose(ctx, files, among=(name,), insist=True)
    if proposal.changes:
        gitops.push_step(ctx, proposal).run()


def _until_kept(ctx: Context, release: Release, bundle: str) -> None:
    deadline = ctx.deadline(live.SYNC_SECONDS, f"waiting for Fleet to learn that it keeps {release.name}")
    for _ in deadline.ticks(2.0):
        have = ctx.helm.installed().get(f"{release.namespace}/{release.name}")
        if have is None or have.kept:
            return
        ctx.say("progress", f"Fleet learns to keep {release.name}", phase=gitops.PHASE, target=f"helm/{release.name}")
    deadline.check(where=f"bundle {bundle}", cause="\n".join(live.controllers(ctx)), next="run the same command again")
