"""Namespaces for pods that only live while somebody looks: they go away with the block, and after a killed run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from gpuctl.context import Context
from gpuctl.run.deadline import Deadline

GONE_SECONDS = 60.0


@contextmanager
def temporary(ctx: Context, purpose: str, phase: str) -> Iterator[str]:
    """``gpuctl-<purpose>-<random>``; what a killed run left behind, known by the cluster's id on it, goes first."""
    label, mark = f"gpuctl.io/{purpose}", ctx.workspace.cluster_id
    for left in ctx.kubernetes.list("/api/v1/namespaces", labelSelector=f"{label}={mark}"):
        _remove(ctx, str(left["metadata"]["name"]), phase)
    name = f"gpuctl-{purpose}-{secrets.token_hex(3)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {label: mark}}}
    ctx.kubernetes.post("/api/v1/namespaces", body)
    try:
        yield name
    finally:
        _remove(ctx, name, phase)


def _remove(ctx: Context, name: str, phase: str) -> None:
    """Delete it and wait for its end, also when interrupted: its pods may hold cards and volumes until then."""
    ctx.kubernetes.delete(f"/api/v1/namespaces/{name}")
    for _ in Deadline.after(GONE_SECONDS, f"removing the namespace {name}").ticks(0.5):
        if not ctx.kubernetes.list("/api/v1/namespaces", fieldSelector=f"metadata.name={name}"):
            return
    ctx.say("warning", f"the namespace {name} is still terminating; it will go by itself", phase=phase)
