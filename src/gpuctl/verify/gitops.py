"""Fleet's GitRepo and bundles, and where the branch is at the remote itself."""

from __future__ import annotations

from gpuctl.context import Context
from gpuctl.phases.manage import fleet
from gpuctl.run.errors import GpuctlError
from gpuctl.verify.facts import GitOps


def observe(ctx: Context) -> GitOps:
    """Raises GpuctlError when the cluster does not answer; a silent remote is a fact."""
    head: str | GpuctlError
    try:
        head = ctx.git.remote_head()
    except GpuctlError as error:
        head = error
    seen = fleet.observe(ctx)
    return GitOps(head, seen, tuple(fleet.controllers(ctx)) if seen.installed else ())
