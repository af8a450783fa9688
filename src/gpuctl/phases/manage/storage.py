"""Provisioners and storage classes. Nothing that volumes hang on is ever removed or turned into something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpuctl.context import Context
from gpuctl.phases import releases
from gpuctl.phases.steps import Step
from gpuctl.render import storage
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.systems.helm import OWNER

PHASE = "manage"
BUNDLE = "storageclasses"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
# what the API never changes in a StorageClass
FIXED = ("provisioner", "reclaimPolicy", "volumeBindingMode", "parameters")
PROVISIONERS = {storage.CSI: storage.CSI_PROVISIONER, storage.SUBDIR: storage.SUBDIR_PROVISIONER}


def plan(ctx: Context) -> list[Step]:
    """GpuctlError names the volumes that a change of the spec would leave without their class or provisioner."""
    volumes = ctx.kubernetes.list("/api/v1/persistentvolumes")
    live = {str(item["metadata"]["name"]): item for item in ctx.kubernetes.list(CLASSES)}
    made_anew = _refuse_classes(ctx, live, volumes)
    steps: list[Step] = []
    for name, (namespace, wanted) in storage.releases(ctx.spec).items():
        if name == storage.CLASSES and ctx.spec.by_fleet(BUNDLE):
            _refuse_ours(ctx, name, namespace)
            continue
        if wanted is None and name in PROVISIONERS:
            _refuse_provisioner(ctx, f"{namespace}/{name}", PROVISIONERS[name], volumes)
        for step in releases.steps(ctx, PHASE, name, namespace, wanted):
            steps += _anew(ctx, made_anew, step) if name == storage.CLASSES and made_anew else [step]
    return steps


def _anew(ctx: Context, names: Sequence[str], step: Step) -> list[Step]:
    """The release's step, before which classes go that the API would not change; no volume is of them."""

    def run() -> None:
        for name in names:
            ctx.kubernetes.delete(f"{CLASSES}/{name}")
        step.run()

    words = f"{step.change.summary}; {', '.join(names)} made anew, no volume is of it"
    return [Step(replace(step.change, summary=words), run)]


def _refuse_classes(
    ctx: Context, live: Mapping[str, Mapping[str, Any]], volumes: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The classes that must be made anew. GpuctlError when volumes are of a class that goes or becomes another."""
    wanted = {str(one["name"]): one for one in storage.classes(ctx.spec).values["classes"]}
    anew = []
    for name, item in live.items():
        if (item["metadata"].get("annotations") or {}).get("meta.helm.sh/release-name") != storage.CLASSES:
            continue
        of_it = [volume for volume in volumes if volume["spec"].get("storageClassName") == name]
        if name not in wanted:
            if of_it:
                raise _refused(f"the storage class {name} would go", of_it, f"keep {name} in the spec")
        elif changed := _changed(item, wanted[name]):
            if of_it:
                words = ", ".join(changed)
                raise _refused(
                    f"the storage class {name} would become another one ({words})",
                    of_it,
                    f"set it back, or give the new one another name than {name}",
                )
            anew.append(name)
    return anew


def _changed(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In words which fixed fields differ."""
    found = []
    for field in FIXED:
        before, after = live.get(field) or {}, wanted.get(field) or {}
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
            found += [f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}" for key in keys]
        elif before != after:
            found.append(f"{field} {before} -> {after}")
    return found


def _refuse_provisioner(ctx: Context, release: str, name: str, volumes: Sequence[Mapping[str, Any]]) -> None:
    installed = ctx.helm.installed().get(release)
    if installed is None or installed.labels.get(OWNER) != ctx.workspace.cluster_id:
        return
    by_it = [volume for volume in volumes if name in _provisioners(volume)]
    if by_it:
        raise _refused(f"{installed.name} would go", by_it, "keep storage.nfs and its provisioner in the spec")


def _provisioners(volume: Mapping[str, Any]) -> tuple[str, str]:
    csi = volume["spec"].get("csi") or {}
    return str(csi.get("driver", "")), str((volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY, ""))


def _refuse_ours(ctx: Context, name: str, namespace: str) -> None:
    installed = ctx.helm.installed().get(f"{namespace}/{name}")
    if installed is not None and OWNER in installed.labels:
        raise GpuctlError(
            f"the release {name} is still gpuctl's, the spec gives it to Fleet",
            where=f"namespace {namespace}",
            cause="a release has one owner; two would undo each other's work",
            next=f"gpuctl gitops adopt {BUNDLE}",
        )


def _refused(what: str, volumes: Sequence[Mapping[str, Any]], way_out: str) -> GpuctlError:
    shown = [_claim(volume) for volume in volumes[:5]]
    more = f"\nand {len(volumes) - 5} more" if len(volumes) > 5 else ""
    return GpuctlError(
        f"refused: {what}, but {len(volumes)} volume{'s hang' if len(volumes) > 1 else ' hangs'} on it",
        where=f"persistentvolume/{volumes[0]['metadata']['name']}",
        cause="their data could be lost, or not be reached any more\n" + "\n".join(shown) + more,
        next=f"{way_out}; or copy the data into volumes of another class and delete these claims first",
        exit_code=Exit.USAGE,
    )


def _claim(volume: Mapping[str, Any]) -> str:
    claim = volume["spec"].get("claimRef") or {}
    name = f"{claim['namespace']}/{claim['name']}" if claim else "no claim"
    return f"{volume['metadata']['name']}: {name}, {volume['spec'].get('capacity', {}).get('storage', '')}"
