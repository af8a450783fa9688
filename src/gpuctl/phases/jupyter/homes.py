"""Claims that hold data: users' homes and the hub's database. Their class never changes, and they never shrink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuctl.context import Context
from gpuctl.phases.base import Change
from gpuctl.phases.steps import Step
from gpuctl.render import jupyterhub
from gpuctl.render.charts import quantity
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.resolved import JupyterHub
from gpuctl.spec.units import show_size

PATH = f"/api/v1/namespaces/{jupyterhub.NAMESPACE}/persistentvolumeclaims"
# as KubeSpawner labels the claims that it makes
HOMES = "component=singleuser-storage"
USER = "hub.jupyter.org/username"
SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}


def steps(ctx: Context, hub: JupyterHub) -> list[Step]:
    """Homes that must grow. GpuctlError names what could only be had by deleting a claim, which is never done."""
    _check_database(ctx)
    claims = ctx.kubernetes.list(PATH, labelSelector=HOMES)
    elsewhere = {_name(claim): _class(claim) for claim in claims if _class(claim) != hub.home_class}
    if elsewhere:
        raise _refused(
            f"{len(elsewhere)} homes have another storage class than {hub.home_class}",
            elsewhere,
            f"set jupyterhub.home.class back to {next(iter(elsewhere.values()))}, or copy each home into a claim of the"
            " new class with the same name",
        )
    larger = {_name(claim): show_size(_size(claim)) for claim in claims if _size(claim) > hub.home_size}
    if larger:
        raise _refused(
            f"{len(larger)} homes are larger than {show_size(hub.home_size)}",
            larger,
            f"set jupyterhub.home.size to {max(larger.values())} or more; homes cannot shrink",
        )
    smaller = [_name(claim) for claim in claims if _size(claim) < hub.home_size]
    if not smaller:
        return []
    if not ctx.kubernetes.get(f"/apis/storage.k8s.io/v1/storageclasses/{hub.home_class}").get("allowVolumeExpansion"):
        raise _refused(
            f"{len(smaller)} homes cannot grow to {show_size(hub.home_size)}",
            dict.fromkeys(smaller, f"the class {hub.home_class} does not expand volumes"),
            "set jupyterhub.home.size back",
        )

    def run() -> None:
        body = {"spec": {"resources": {"requests": {"storage": quantity(hub.home_size)}}}}
        for name in smaller:
            ctx.kubernetes.patch(f"{PATH}/{name}", body)
        ctx.say("target", f"{len(smaller)} homes grown", phase="jupyter", target="homes")

    return [Step(Change("homes", "update", f"{len(smaller)} homes grow to {show_size(hub.home_size)}"), run)]


def _check_database(ctx: Context) -> None:
    wanted = ctx.spec.storage.local.storage_class
    for claim in ctx.kubernetes.list(PATH, fieldSelector=f"metadata.name={jupyterhub.DATABASE_CLAIM}"):
        if (have := _class(claim)) == wanted:
            continue
        nfs = ctx.spec.storage.nfs
        on_nfs = nfs is not None and have == nfs.storage_class
        raise _refused(
            "the hub's database lies on NFS" if on_nfs else f"the hub's database has the class {have}, not {wanted}",
            {jupyterhub.DATABASE_CLAIM: have},
            f"copy jupyterhub.sqlite out of the hub's pod, delete the claim {jupyterhub.DATABASE_CLAIM} and the"
            " deployment hub, run gpuctl jupyter and copy it back"
            + ("" if on_nfs else f"; or set storage.local.class back to {have}"),
        )


def _refused(what: str, claims: Mapping[str, str], way_out: str) -> GpuctlError:
    shown = [f"{name}: {words}" for name, words in list(claims.items())[:5]]
    return GpuctlError(
        f"refused: {what}",
        where=f"namespace {jupyterhub.NAMESPACE}",
        cause="\n".join(["Kubernetes would have to delete the claims, and their data with them", *shown]),
        next=way_out,
        exit_code=Exit.USAGE,
    )


def _name(claim: Mapping[str, Any]) -> str:
    return str(claim["metadata"]["name"])


def _class(claim: Mapping[str, Any]) -> str:
    return str(claim["spec"].get("storageClassName", ""))


def _size(claim: Mapping[str, Any]) -> int:
    text = str(claim["spec"]["resources"]["requests"]["storage"])
    return int(text[:-2]) << SUFFIXES[text[-2:]] if text[-2:] in SUFFIXES else int(text)
