"""Rancher goes: its release, then the finalizers that only it could have taken off.

What it recorded (users, settings, clusters) stays as objects that hold up nothing; the cluster itself is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpuctl.context import Context
from gpuctl.phases.base import Change
from gpuctl.phases.steps import Step
from gpuctl.render import rancher
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.systems.helm import OWNER

PHASE = "manage"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GITREPOS = "/apis/fleet.cattle.io/v1alpha1/gitrepos"
RANCHERS = ".cattle.io"
# of K3s itself
NOT_RANCHERS = ("k3s.cattle.io", "helm.cattle.io")
# what Rancher puts on objects of Kubernetes' own kinds
FINALIZER = "controller.cattle.io/"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
KINDS = (
    "/api/v1/namespaces",
    f"{RBAC}/clusterroles",
    f"{RBAC}/clusterrolebindings",
    f"{RBAC}/roles",
    f"{RBAC}/rolebindings",
)


def plan(ctx: Context, release: Sequence[Step]) -> list[Step]:
    """``release``: the step that uninstalls it, if it is there. GpuctlError when somebody still works through it."""
    namespace = ctx.kubernetes.find(f"/api/v1/namespaces/{rancher.NAMESPACE}")
    ours = namespace is not None and (namespace["metadata"].get("labels") or {}).get(OWNER) == ctx.workspace.cluster_id
    if not release and not ours:
        return []
    if release:
        _refuse(ctx)
    count = len(list(_held(ctx)))
    if not release and not count:
        return []
    gone = "nobody reaches Rancher and its Fleet any more; workloads go on"
    steps = [replace(step, change=replace(step.change, disruption=gone)) for step in release]
    words = f"the finalizers of {count} objects, which only it could take off"
    return [*steps, Step(Change("rancher/finalizers", "remove", words), lambda: _let_go(ctx))]


def _refuse(ctx: Context) -> None:
    """Repositories of others live by the Fleet that Rancher brought; gpuctl's own is removed before."""
    found = (ctx.kubernetes.find(GITREPOS) or {}).get("items", ())
    theirs = [
        f"{item['metadata']['namespace']}/{item['metadata']['name']}: {item['spec'].get('repo', '')}"
        for item in found
        if (item["metadata"].get("labels") or {}).get(OWNER) != ctx.workspace.cluster_id
    ]
    if theirs:
        raise GpuctlError(
            f"refused: Rancher would go, and with it the Fleet that {len(theirs)} GitRepos live by",
            where=f"gitrepo/{theirs[0].partition(':')[0]}",
            cause="\n".join(theirs[:5]),
            next="remove these GitRepos first, or keep management.rancher in the spec",
            exit_code=Exit.USAGE,
        )


def _held(ctx: Context) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """(path, object, whether its kind is Rancher's own) of everything with a finalizer of Rancher."""
    for path in KINDS:
        for item in ctx.kubernetes.list(path):
            if any(name.startswith(FINALIZER) for name in item["metadata"].get("finalizers", ())):
                yield _path(path, item), item, False
    for crd in ctx.kubernetes.list(CRDS):
        group = str(crd["spec"]["group"])
        if not group.endswith(RANCHERS) or group in NOT_RANCHERS:
            continue
        version = next(one["name"] for one in crd["spec"]["versions"] if one["storage"])
        path = f"/apis/{group}/{version}/{crd['spec']['names']['plural']}"
        for item in ctx.kubernetes.list(path):
            if item["metadata"].get("finalizers"):
                yield _path(path, item), item, True


def _path(collection: str, item: Mapping[str, Any]) -> str:
    base, _, plural = collection.rpartition("/")
    metadata = item["metadata"]
    where = f"/namespaces/{metadata['namespace']}" if metadata.get("namespace") else ""
    return f"{base}{where}/{plural}/{metadata['name']}"


def _let_go(ctx: Context) -> None:
    count = 0
    for path, item, own in list(_held(ctx)):
        kept = [] if own else [name for name in item["metadata"]["finalizers"] if not name.startswith(FINALIZER)]
        ctx.kubernetes.patch(path, {"metadata": {"finalizers": kept or None}}, custom=True)
        count += 1
    ctx.say("target", f"{count} objects let go", phase=PHASE, target="rancher/finalizers")
