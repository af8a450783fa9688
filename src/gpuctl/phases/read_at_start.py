"""Secrets that a Deployment reads when it starts: a change restarts it, also after a run that was killed in between."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gpuctl.context import Context

# what a run that is killed between the Secret and the restart leaves on the Secret
UNREAD = "gpuctl.io/not-read-yet"


def owed(live: Mapping[str, Any] | None) -> bool:
    """Whether the restart is still to come."""
    return bool(live and UNREAD in (live["metadata"].get("annotations") or {}))


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """As a Secret holds them."""
    return {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}


def write(ctx: Context, path: str, values: Mapping[str, str], *, phase: str, reader: str = "") -> None:
    """The Secret at this path of the API, then the restart of ``reader``, the Deployment's path, where there is one."""
    namespace, _, name = path.removeprefix("/api/v1/namespaces/").partition("/secrets/")
    running = bool(reader) and ctx.kubernetes.find(reader) is not None

    def apply(annotations: Mapping[str, str]) -> None:
        metadata = {"name": name, "namespace": namespace, **({"annotations": annotations} if annotations else {})}
        ctx.kubernetes.apply(
            path, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded(values)}
        )

    apply({UNREAD: "true"} if running else {})
    ctx.say("target", "written", phase=phase, target=f"secret/{name}")
    if running:
        note = {"kubectl.kubernetes.io/restartedAt": f"{datetime.now(UTC):%FT%TZ}"}
        ctx.kubernetes.patch(reader, {"spec": {"template": {"metadata": {"annotations": note}}}})
        apply({})
