"""Secrets at rest, looked at where they rest: in the newest database snapshots."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged, passed
from gpuctl.verify.facts import Facts

LIMIT = "all encrypted"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    names = {node.name for node in spec.servers}
    found = {name: host.snapshot for name, host in facts.reached.items() if name in names and host.snapshot}
    encrypted, plain = sum(s.encrypted for s in found.values()), sum(s.plain for s in found.values())
    measured = f"{encrypted} encrypted, {plain} readable in {len(found)} snapshots"
    if plain:
        readable = {name: f"{s.plain} readable Secrets in {s.name}" for name, s in found.items() if s.plain}
        return judged(readable, measured, LIMIT, next="k3s secrets-encrypt status on a server")
    if not encrypted:
        reason = "the snapshots hold no Secret, or are compressed" if found else "there is no snapshot to look into"
        return Measurement("unknown", measured, LIMIT, reason, next="k3s etcd-snapshot save on a server; gpuctl verify")
    return passed(measured, LIMIT)


CHECK = Check("SEC-04", "security", "Secrets are encrypted in the database", ("hosts",), judge)
