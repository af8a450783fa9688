"""Pods of kube-system. A restart shows in the start time of a container that was restarted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, failed, judged
from gpuctl.verify.facts import Facts

LIMIT = "all Ready, no restart in 60 s"
RECENT = 60.0


def judge(spec: Resolved, facts: Facts) -> Measurement:
    pods = [pod for pod in facts.cluster.system_pods if pod["status"].get("phase") != "Succeeded"]
    if not pods:
        return failed(
            "no system pods", LIMIT, "kube-system is empty: not even CoreDNS was deployed", "gpuctl bootstrap"
        )
    problems = {}
    for pod in pods:
        name = str(pod["metadata"]["name"])
        statuses = pod["status"].get("containerStatuses", ())
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        restarted = [s for s in statuses if s.get("restartCount") and _age(s, facts.now) < RECENT]
        if not ready:
            problems[name] = _why(pod)
        elif restarted:
            problems[name] = "restarted within the last minute"
    return judged(
        problems, f"{len(pods) - len(problems)} of {len(pods)} Ready", LIMIT, next="kubectl -n kube-system get events"
    )


def _age(status: Mapping[str, Any], now: float) -> float:
    started = status.get("state", {}).get("running", {}).get("startedAt")
    return now - datetime.fromisoformat(started).timestamp() if started else 0.0


def _why(pod: Mapping[str, Any]) -> str:
    for status in pod["status"].get("containerStatuses", ()):
        if waiting := status.get("state", {}).get("waiting"):
            return str(waiting.get("reason", "waiting"))
    for condition in pod["status"].get("conditions", ()):
        if condition["status"] != "True" and condition.get("message"):
            return str(condition["message"])
    return str(pod["status"].get("phase", "not Ready"))


CHECK = Check(
    "CLU-08",
    "cluster",
    "all system pods are Ready and none restarted in the last minute",
    ("kubernetes",),
    judge,
    "Talos",
)
