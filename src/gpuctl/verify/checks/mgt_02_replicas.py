"""As many replicas of Rancher as the spec wants are ready, and the cluster that it calls local is Ready."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged, with_rancher
from gpuctl.verify.facts import Facts


def judge(spec: Resolved, facts: Facts) -> Measurement:
    assert spec.rancher
    found, wanted = facts.managed, spec.rancher.replicas
    problems = {}
    if found.replicas is None:
        problems["Rancher"] = "there is no Deployment cattle-system/rancher"
    elif found.replicas != wanted:
        problems["Rancher"] = f"{found.replicas} of {wanted} replicas are ready"
    if found.local:
        problems["cluster local"] = found.local
    measured = f"{found.replicas or 0} replicas, local {'not Ready' if found.local else 'Ready'}"
    return judged(problems, measured, f"{wanted} replicas, local Ready", next="kubectl -n cattle-system get pods")


CHECK = Check("MGT-02", "management", "Rancher is whole", ("management",), judge, applies=with_rancher)
