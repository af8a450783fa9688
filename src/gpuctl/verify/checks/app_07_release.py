"""A stopped notebook gives its GPUs back."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_notebooks
from gpuctl.verify.checks.app_03_gpus import cards, with_gpu_profiles
from gpuctl.verify.facts import Facts

SECONDS = 60.0
LIMIT = f"within {SECONDS:g} s"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    assert spec.jupyterhub is not None
    names = [profile.name for profile in spec.jupyterhub.profiles if cards(profile)]
    times = {name: released for name in names if (released := facts.spawned[name].released) is not None}
    problems = {name: f"after {took:.0f} s" for name, took in times.items() if took > SECONDS}
    measured = f"slowest of {len(times)} after {max(times.values()):.1f} s" if times else "no notebook with a GPU ran"
    return over_notebooks(
        facts, problems, measured, LIMIT, among=names, next="kubectl -n jupyterhub get pods; kubelet's log of the node"
    )


CHECK = Check("APP-07", "applications", "GPUs come back", ("notebooks",), judge, applies=with_gpu_profiles)
