"""Rancher as its users find it, and as Kubernetes has it."""

from __future__ import annotations

import time

from gpuctl.context import Context
from gpuctl.phases.manage import rancher as phase
from gpuctl.render import rancher
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Rancher
from gpuctl.verify.facts import Management

CLUSTER = "/apis/management.cattle.io/v3/clusters/local"
PAGE = "/dashboard/"


def observe(ctx: Context) -> Management:
    """Raises GpuctlError when the cluster does not answer; a silent Rancher is a fact."""
    wanted = ctx.spec.rancher
    assert wanted is not None  # the checks apply to specs with one
    deployment = ctx.kubernetes.find(phase.DEPLOYMENT)
    ready = int((deployment.get("status") or {}).get("readyReplicas", 0)) if deployment else None
    cluster = ctx.kubernetes.find(CLUSTER)
    said = {str(c["type"]): c for c in ((cluster or {}).get("status") or {}).get("conditions", ())}
    condition = said.get("Ready", {})
    words = str(condition.get("message") or condition.get("reason") or "it says nothing of itself")
    status, seconds, error = _page(ctx, wanted)
    return Management(
        status,
        seconds,
        error,
        ready,
        "there is no cluster local" if cluster is None else "" if condition.get("status") == "True" else words,
        _first_password(ctx, wanted),
    )


def _page(ctx: Context, wanted: Rancher) -> tuple[int, float, str]:
    """(HTTP status, seconds, why there is none) of its first page, by a verified connection."""
    began = time.monotonic()
    try:
        answer = phase.https(ctx, wanted).request("GET", PAGE)
    except GpuctlError as error:
        return 0, time.monotonic() - began, f"{error.what}{f' ({error.cause})' if error.cause else ''}"
    return answer.status, time.monotonic() - began, ""


def _first_password(ctx: Context, wanted: Rancher) -> bool | GpuctlError:
    """Whether the one it was installed with still opens the door; unknown when it is not known any more."""
    known = (ctx.workspace.secrets / phase.FIRST).exists() or ctx.kubernetes.find(phase.BOOTSTRAP) is not None
    if not known:
        return GpuctlError(
            "the bootstrap password is known neither here nor in the cluster",
            where=f"secret {rancher.NAMESPACE}/{rancher.BOOTSTRAP_SECRET}",
            next="verify where gpuctl apply was run",
        )
    try:
        return phase.takes(ctx, phase.client(ctx, wanted))
    except GpuctlError as error:
        return error
