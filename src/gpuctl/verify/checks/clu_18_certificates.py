"""Certificate requests, and how long the certificates of K3s last."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_hosts
from gpuctl.verify.facts import Facts

LIMIT = "0 pending, > 30 d left"
DAY = 86400
DAYS = 30


def judge(spec: Resolved, facts: Facts) -> Measurement:
    pending = [str(r["metadata"]["name"]) for r in facts.cluster.requests if not r.get("status", {}).get("conditions")]
    problems = dict.fromkeys(pending, "waits for approval")
    least = None
    for name, host in facts.reached.items():
        for path, left in host.certificates.items():
            least = left if least is None else min(least, left)
            if left < DAYS * DAY:
                problems[f"{name}:{path}"] = f"{left / DAY:.0f} d left"
        if not host.certificates:
            problems[name] = "has no K3s certificates"
    measured = f"{len(pending)} pending" + (f", {least / DAY:.0f} d left at least" if least is not None else "")
    return over_hosts(facts, problems, measured, LIMIT, next="systemctl restart k3s on the host renews them")


CHECK = Check(
    "CLU-18",
    "cluster",
    "no certificate request waits, no certificate ends soon",
    (
        "kubernetes",
        "hosts",
    ),
    judge,
    "kubespray",
)
