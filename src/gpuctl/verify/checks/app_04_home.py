"""A file in a home is there again after the notebook was stopped and started."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_notebooks, with_hub
from gpuctl.verify.facts import Facts

LIMIT = "the same content"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    hub = spec.jupyterhub
    assert hub is not None
    first = hub.profiles[0].name
    kept = facts.spawned[first].kept
    problems = {first: "a file is gone or changed after a restart"} if kept is False else {}
    measured = "kept" if kept else "not kept" if kept is False else "not measured"
    return over_notebooks(
        facts, problems, f"{measured} on {hub.home_class}", LIMIT, among={first}, next="kubectl -n jupyterhub get pvc"
    )


CHECK = Check("APP-04", "applications", "homes outlive notebooks", ("notebooks",), judge, applies=with_hub)
