"""Helm releases in a phase: one owner each, compared live, installed from a pinned chart, waited for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import yaml

from gpuctl.context import Context
from gpuctl.phases import steps as steps_
from gpuctl.phases import workloads
from gpuctl.phases.base import Action, Change
from gpuctl.render.charts import Release
from gpuctl.run.errors import GpuctlError
from gpuctl.systems.helm import GIVEN, OWNER, Installed

READY_SECONDS = 600.0
WORKERS = 8
# what Fleet adds to the values of every release
FLEETS_OWN = "global.fleet."
SECRET = re.compile(r"^kind: *[\"']?Secret\b", re.MULTILINE)
SECRET_DATA = re.compile(r"^((?:stringData|data):).*\n(?:(?:[ \t].*)?\n)*", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A change of one release. ``wanted`` None: it goes. ``digest`` of the chart that the plan was made with."""

    change: Change
    wanted: Release | None
    installed: Installed | None
    digest: str = ""


def plan(ctx: Context, name: str, namespace: str, wanted: Release | None) -> Step | None:
    """What would happen to the release; None when it is as it should be. GpuctlError when it is not ours."""
    installed = ctx.helm.installed().get(f"{namespace}/{name}")
    if installed is None and wanted is None:
        return None
    if installed is not None and installed.bundle:
        if wanted is None:
            return None
        raise GpuctlError(
            f"the Helm release {name} belongs to Fleet's bundle {installed.bundle}",
            where=f"namespace {namespace}, chart {installed.chart} {installed.version}",
            cause="a release has one owner; two would undo each other's work",
            next="gpuctl gitops adopt BUNDLE gives it back to gpuctl; or list it in management.gitops.bundles again",
        )
    if installed is not None and installed.labels.get(OWNER) != ctx.workspace.cluster_id:
        if wanted is None:
            return None
        given = "" if OWNER in installed.labels else installed.labels.get(GIVEN)
        raise GpuctlError(
            f"the Helm release {name} was given to Fleet's bundle {given}, which has not taken it"
            if given
            else f"the Helm release {name} exists and was not made by gpuctl",
            where=f"namespace {namespace}, chart {installed.chart} {installed.version}",
            cause="a release has one owner; two would undo each other's work",
            next="gpuctl gitops adopt BUNDLE takes it back; or list its bundle in management.gitops.bundles again"
            if given
            else f"helm uninstall {name} -n {namespace} (its workloads stop), then run the same command again",
        )
    target = f"helm/{name}"
    if wanted is None:
        assert installed is not None
        return Step(Change(target, "remove", f"{installed.chart} {installed.version}"), None, installed)
    reasons = _reasons(ctx, wanted, installed)
    if not reasons:
        return None
    chart, digest = ctx.helm.chart(wanted)
    after = ctx.helm.render(wanted, chart)
    action: Action = "update" if installed else "create"
    before = installed.manifest if installed else ""
    change = Change(target, action, ", ".join(reasons), after=_difference(_shown(before), _shown(after)))
    return Step(change, wanted, installed, digest)


def _reasons(ctx: Context, wanted: Release, installed: Installed | None) -> list[str]:
    if installed is None:
        return [f"{wanted.chart} {wanted.version}"]
    reasons = differences(installed, wanted) or _drifted(ctx, installed)
    if not reasons and wanted.own and ctx.helm.render(wanted, ctx.helm.chart(wanted)[0]) != installed.manifest:
        reasons.append("the chart")
    return reasons


def differences(installed: Installed, wanted: Release) -> list[str]:
    """In words how a release's record differs from the wanted one."""
    reasons = []
    if installed.pending or installed.status != "deployed":
        reasons.append(f"left {installed.status} by an earlier run")
    if (installed.chart, installed.version) != (wanted.chart, wanted.version):
        reasons.append(f"{installed.chart} {installed.version} -> {wanted.version}")
    if changed := _changed_values(installed.values, wanted):
        reasons.append(f"values {', '.join(changed[:4])}{' ...' if len(changed) > 4 else ''}")
    return reasons


def _changed_values(have: Mapping[str, Any], wanted: Release) -> list[str]:
    """Dotted names of the values that differ."""
    old, new = _leaves(have), _leaves(yaml.safe_load(wanted.values_yaml()))
    names = (name for name in old.keys() | new.keys() if not name.startswith(FLEETS_OWN))
    return sorted(name for name in names if old.get(name) != new.get(name))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found.update(_leaves(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = yaml.safe_dump(_plain(value), sort_keys=True)
    return found


def _plain(value: Any) -> Any:
    """Numbers as Helm gives them back: it keeps JSON, which does not tell 2.0 from 2."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _drifted(ctx: Context, installed: Installed) -> list[str]:
    """The release's objects that are missing or were changed by others, each asked of the live API."""
    items = [item for item in workloads.objects(installed.manifest) if item["kind"] != "Job"]
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        words = list(pool.map(lambda item: ctx.kubernetes.drift(item, installed.namespace), items))
    return [
        f"{item['kind'].lower()}/{item['metadata']['name']} {word}"
        for item, word in zip(items, words, strict=True)
        if word
    ]


def _shown(manifest: str) -> str:
    """A manifest for people: the data of Secrets is left out."""
    parts = manifest.split("\n---\n")
    return "\n---\n".join(part if not SECRET.search(part) else SECRET_DATA.sub(r"\1 ...\n", part) for part in parts)


def _difference(before: str, after: str) -> str:
    return "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "installed", "wanted", n=2))


def steps(ctx: Context, phase: str, name: str, namespace: str, wanted: Release | None) -> list[steps_.Step]:
    """The release's change, if any, as a step that ends when its workloads are rolled out."""
    made = plan(ctx, name, namespace, wanted)
    if made is None:
        return []

    def run() -> None:
        apply(ctx, phase, made)
        if wanted is not None:
            wait(ctx, phase, wanted)

    return [steps_.Step(made.change, run)]


def apply(ctx: Context, phase: str, step: Step) -> None:
    """Carry out the step; the objects exist afterwards, see ``wait``."""
    target = step.change.target
    if step.wanted is None:
        assert step.installed is not None
        ctx.helm.uninstall(step.installed)
        ctx.say("target", "uninstalled", phase=phase, target=target)
        return
    wanted = step.wanted
    chart, digest = ctx.helm.chart(wanted)
    if digest != step.digest:
        raise GpuctlError(f"the chart of {wanted.name} changed after it was planned", next="run the same command again")
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": wanted.namespace, "labels": dict(wanted.labels)},
    }
    ctx.kubernetes.apply(f"/api/v1/namespaces/{wanted.namespace}", namespace)
    if step.installed is not None and step.installed.pending:
        ctx.helm.recover(step.installed)
        ctx.say("target", f"taken up where it was left ({step.installed.status})", phase=phase, target=target)
    ctx.helm.apply(wanted, chart)
    ctx.say("target", f"{wanted.chart} {wanted.version} installed", phase=phase, target=target)


def wait(ctx: Context, phase: str, release: Release, seconds: float = READY_SECONDS) -> None:
    """Until every workload of the release is rolled out. GpuctlError names the pod that does not start."""
    installed = ctx.helm.installed()[f"{release.namespace}/{release.name}"]
    items = [item for item in workloads.objects(installed.manifest) if not _background(item, release)]
    watch = workloads.Watch(ctx, phase, release.namespace, release.background)
    deadline = ctx.deadline(seconds, f"waiting for {release.name}")
    behind: list[str] = []
    for _ in deadline.ticks(1.0):
        behind = workloads.unready(ctx, items, release.namespace)
        if not behind:
            return
        ctx.say("progress", f"{release.name}: {behind[0]}", phase=phase, target=f"helm/{release.name}")
        watch.look()
    raise watch.expired(deadline, behind)


def _background(item: Mapping[str, Any], release: Release) -> bool:
    return (item["metadata"].get("labels") or {}).get("component") in release.background
