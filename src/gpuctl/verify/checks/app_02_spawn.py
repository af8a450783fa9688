"""A notebook of every profile starts."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.applications import SPAWN_SECONDS
from gpuctl.verify.base import Check, Measurement, broken, over_notebooks, with_hub
from gpuctl.verify.facts import Facts

LIMIT = f"each within {SPAWN_SECONDS:g} s"


def judge(_: Resolved, facts: Facts) -> Measurement:
    found = facts.spawned
    times = [notebook.ready for notebook in found.values() if notebook.ready is not None]
    problems = {name: notebook.error for name, notebook in found.items() if notebook.error and notebook.ready is None}
    slow = {
        name: f"after {notebook.ready:.0f} s"
        for name, notebook in found.items()
        if notebook.ready is not None and notebook.ready > SPAWN_SECONDS
    }
    measured = f"{len(times)} of {len(found)} profiles" + (f", slowest {max(times):.1f} s" if times else "")
    way_out = "kubectl -n jupyterhub get events; large images: has the puller got them to the node?"
    verdict = over_notebooks(facts, {**problems, **slow}, measured, LIMIT, next=way_out)
    return replace(verdict, cause=broken(problems)) if problems else verdict


CHECK = Check(
    "APP-02", "applications", "notebooks of all profiles start", ("notebooks",), judge, "zero-to-jupyterhub", with_hub
)
