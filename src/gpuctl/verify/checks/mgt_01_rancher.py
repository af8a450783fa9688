"""Rancher's page comes soon, by a certificate that its users can verify."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, failed, passed, with_rancher
from gpuctl.verify.facts import Facts

SECONDS = 5.0
LIMIT = f"200, valid chain, <= {SECONDS:.0f} s"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    assert spec.rancher
    found = facts.managed
    if found.error:
        return failed(
            "no answer", LIMIT, found.error, "gpuctl manage; kubectl -n cattle-system get certificate,ingress"
        )
    measured = f"{found.status} in {found.seconds:.2f} s"
    if found.status != 200:
        return failed(measured, LIMIT, f"https://{spec.rancher.hostname} answers {found.status}", "gpuctl manage")
    if found.seconds > SECONDS:
        return failed(measured, LIMIT, "too slow", "kubectl -n cattle-system top pods")
    return passed(measured, LIMIT)


CHECK = Check("MGT-01", "management", "Rancher answers by TLS", ("management",), judge, applies=with_rancher)
