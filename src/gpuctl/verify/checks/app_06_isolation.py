"""A notebook reaches the hub and nothing else of the cluster or the site."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_notebooks, with_hub
from gpuctl.verify.facts import Facts

LIMIT = "the hub, nothing else, within 3 s"
ALLOWED = "hub"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    assert spec.jupyterhub is not None
    first = spec.jupyterhub.profiles[0].name
    notebook = facts.spawned[first]
    forbidden = [name for name in notebook.targets if name != ALLOWED]
    open_ones = [name for name in notebook.reached if name != ALLOWED]
    measured = f"{len(forbidden) - len(open_ones)} of {len(forbidden)} targets blocked"
    if notebook.targets and ALLOWED not in notebook.reached and not open_ones:
        # a notebook without any network would pass for an isolated one
        return Measurement("unknown", measured, LIMIT, "it does not reach the hub either, so this shows nothing")
    problems = {first: f"reaches {', '.join(open_ones)}"} if open_ones else {}
    return over_notebooks(
        facts,
        problems,
        measured,
        LIMIT,
        among={first},
        next="kubectl -n jupyterhub get networkpolicies; gpuctl jupyter",
    )


CHECK = Check(
    "APP-06", "applications", "notebooks are kept apart", ("notebooks",), judge, "zero-to-jupyterhub", with_hub
)
