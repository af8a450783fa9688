"""The hub answers through the ingress, as the release and the spec have it."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged, with_hub
from gpuctl.verify.facts import Facts

SECONDS = 5.0
LIMIT = f"answers within {SECONDS:g} s, chart and version as released"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    hub = facts.reached_hub
    assert spec.jupyterhub is not None
    if hub.error:
        reason = f"https://{spec.jupyterhub.hostname}: {hub.error}"
        # what needs the hub fails for the same reason
        return Measurement("fail", "no answer", LIMIT, reason, hub.cause, "gpuctl jupyter")
    problems = {}
    if hub.took > SECONDS:
        problems["hub"] = f"answers after {hub.took:.1f} s"
    if hub.chart != spec.jupyterhub.version:
        problems["chart"] = f"{hub.chart or 'none'} instead of {spec.jupyterhub.version}"
    if hub.app and hub.app != hub.version:
        problems["version"] = f"JupyterHub {hub.version} runs, the chart brings {hub.app}"
    measured = f"JupyterHub {hub.version} in {hub.took:.2f} s"
    return judged(problems, measured, LIMIT, next="gpuctl jupyter")


CHECK = Check("APP-01", "applications", "the hub answers users", ("hub",), judge, applies=with_hub)
