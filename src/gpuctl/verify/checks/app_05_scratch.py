"""A notebook writes to its scratch volume nearly as fast as its host to the disk."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_notebooks, with_hub
from gpuctl.verify.facts import SCRATCH_SHARE, Facts

LIMIT = f">= {SCRATCH_SHARE:.0%} of the host's"


def with_scratch(spec: Resolved) -> str:
    return "notebooks have no scratch volume" if spec.jupyterhub and not spec.jupyterhub.scratch else with_hub(spec)


def judge(spec: Resolved, facts: Facts) -> Measurement:
    assert spec.jupyterhub is not None
    first = spec.jupyterhub.profiles[0].name
    notebook = facts.spawned[first]
    if notebook.scratch is None or notebook.disk is None:
        return over_notebooks(facts, {}, "not measured", LIMIT, among={first})
    share = notebook.scratch / notebook.disk
    measured = f"{notebook.scratch / 1e6:.0f} of {notebook.disk / 1e6:.0f} MB/s ({share:.0%})"
    problems = {notebook.node: f"only {share:.0%}"} if share < SCRATCH_SHARE else {}
    return over_notebooks(
        facts, problems, measured, LIMIT, among={first}, next="is the volume on the scratch disk, and is it idle?"
    )


CHECK = Check("APP-05", "applications", "scratch is as fast as its disk", ("notebooks",), judge, applies=with_scratch)
