"""The hub's Secret: values made once and kept in the cluster, and the operator's secrets that the spec refers to.

The chart looks the generated ones up by their keys, and merges the key values.yaml into its values in the hub's pod.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

import yaml

from gpuctl.context import Context
from gpuctl.phases import read_at_start
from gpuctl.phases.base import Change
from gpuctl.phases.steps import Step
from gpuctl.render import jupyterhub
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.secrets import read_secret
from gpuctl.spec.resolved import JupyterHub

PATH = f"/api/v1/namespaces/{jupyterhub.NAMESPACE}/secrets/{jupyterhub.SECRET}"
HUB_PATH = f"/apis/apps/v1/namespaces/{jupyterhub.NAMESPACE}/deployments/hub"
VALUES, ADMIN_PASSWORD = "values.yaml", "admin-password"
# what JupyterHub insists on
SHORTEST_PASSWORD = 8


def steps(ctx: Context, hub: JupyterHub) -> list[Step]:
    """What it takes for the Secret to be as it should. Generated values that exist are never replaced."""
    live = ctx.kubernetes.find(PATH) or {}
    have = _values(ctx, live)
    wanted = _wanted(ctx, hub, have)
    different = sorted(name for name in have.keys() | wanted.keys() if have.get(name) != wanted.get(name))
    if not different and not read_at_start.owed(live):
        return []
    change = Change(
        f"secret/{jupyterhub.SECRET}",
        "update" if have else "create",
        ", ".join(different) or "the hub has not read it since it was changed",
        disruption="the hub restarts, running notebooks go on" if ctx.kubernetes.find(HUB_PATH) else "",
    )
    return [Step(change, lambda: read_at_start.write(ctx, PATH, wanted, phase="jupyter", reader=HUB_PATH))]


def read(ctx: Context) -> dict[str, str]:
    """What the Secret holds, known to the redactor; {} when there is none."""
    return _values(ctx, ctx.kubernetes.find(PATH) or {})


def _values(ctx: Context, live: Mapping[str, Any]) -> dict[str, str]:
    data = live.get("data") or {}
    found = {name: base64.b64decode(value).decode(errors="replace") for name, value in data.items()}
    for name, value in found.items():
        if name != VALUES:
            ctx.redactor.add(value)
    return found


def token(ctx: Context) -> str:
    """The API token of gpuctl's service in the hub. GpuctlError before the phase has made it."""
    try:
        return read(ctx)[jupyterhub.TOKEN]
    except KeyError:
        raise GpuctlError(
            "there is no token for the hub's API yet", where=f"secret {jupyterhub.SECRET}", next="gpuctl jupyter"
        ) from None


def _wanted(ctx: Context, hub: JupyterHub, have: Mapping[str, str]) -> dict[str, str]:
    keys = jupyterhub.secret_keys(hub)

    def generated(name: str, size: int) -> str:
        return have.get(name) or ctx.redactor.add(secrets.token_hex(size))

    wanted = {name: generated(name, size) for name, size in keys.generated.items()}
    sections: dict[str, dict[str, str]] = {}
    for (section, trait), ref in keys.given.items():
        sections.setdefault(section, {})[trait] = read_secret(ref, ctx.redactor)
    shared = sections.get("SharedPasswordAuthenticator", {})
    if len(shared.get("user_password", "x" * SHORTEST_PASSWORD)) < SHORTEST_PASSWORD:
        raise GpuctlError(
            "the password for everybody is too short",
            where=f"jupyterhub.auth.password ({hub.auth.password})",
            cause=f"JupyterHub wants {SHORTEST_PASSWORD} characters at least",
            next="use a longer one",
            exit_code=Exit.USAGE,
        )
    if keys.admin_password:
        # JupyterHub never lets admins in with the password that everybody knows
        shared["admin_password"] = wanted[ADMIN_PASSWORD] = generated(ADMIN_PASSWORD, 16)
    if sections:
        wanted[VALUES] = yaml.safe_dump({"hub": {"config": sections}}, sort_keys=True)
    return wanted
