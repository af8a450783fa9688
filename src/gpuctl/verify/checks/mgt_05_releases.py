"""Helm releases: one that a killed Helm left behind blocks every upgrade."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

LIMIT = "all deployed"


def judge(_: Resolved, facts: Facts) -> Measurement:
    releases = facts.cluster.releases
    problems = {name: status for name, status in releases.items() if status != "deployed"}
    return judged(problems, f"{len(releases) - len(problems)} of {len(releases)} deployed", LIMIT, next="gpuctl apply")


CHECK = Check("MGT-05", "management", "no Helm release is half-made", ("kubernetes",), judge)
