"""K3s version of every node."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, failed, judged
from gpuctl.verify.facts import Facts


def judge(spec: Resolved, facts: Facts) -> Measurement:
    wanted = spec.kubernetes.version
    versions = {str(n["metadata"]["name"]): str(n["status"]["nodeInfo"]["kubeletVersion"]) for n in facts.cluster.nodes}
    problems = {name: version for name, version in versions.items() if version != wanted}
    measured = ", ".join(sorted(set(versions.values()))) or "no nodes"
    if not versions:
        return failed(measured, wanted, "the cluster has no nodes", "gpuctl bootstrap")
    return judged(problems, measured, wanted, next="gpuctl plan")


CHECK = Check("CLU-02", "cluster", "every node runs the K3s of the spec", ("kubernetes",), judge)
