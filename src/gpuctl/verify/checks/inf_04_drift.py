"""Drift: what Terraform would change now."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, failed, passed
from gpuctl.verify.facts import Facts

LIMIT = "0 changes"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    drift = facts.drift
    if not drift:
        return passed("0 changes", LIMIT)
    return failed(f"{len(drift)} changes", LIMIT, "; ".join(drift), "gpuctl plan")


CHECK = Check(
    "INF-04", "infra", "the server is as Terraform left it", ("terraform",), judge, "terraform plan -detailed-exitcode"
)
