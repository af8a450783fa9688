"""What users start is not privileged and does not see the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged, with_hub
from gpuctl.verify.facts import Facts

ENFORCE = "pod-security.kubernetes.io/enforce"
GOOD = ("baseline", "restricted")
LIMIT = f"Pod Security {' or '.join(GOOD)}, no privileged pod, no hostPath"


def judge(_: Resolved, facts: Facts) -> Measurement:
    hub = facts.reached_hub
    problems = {}
    if (level := hub.namespace.get(ENFORCE, "")) not in GOOD:
        problems["namespace jupyterhub"] = f"Pod Security enforces {level or 'nothing'}"
    for pod in hub.pods:
        if words := ", ".join(_openings(pod)):
            problems[str(pod["metadata"]["name"])] = words
    measured = f"{level or 'nothing'} enforced, {len(hub.pods)} pods"
    return judged(problems, measured, LIMIT, next="gpuctl jupyter; then stop the named pods")


def _openings(pod: Mapping[str, Any]) -> Iterator[str]:
    spec = pod["spec"]
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    if any("hostPath" in volume for volume in spec.get("volumes", ())):
        yield "hostPath"
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        if (container.get("securityContext") or {}).get("privileged"):
            yield f"{container['name']} is privileged"


CHECK = Check("SEC-05", "security", "user pods see only themselves", ("hub",), judge, applies=with_hub)
