"""From every node a ClusterIP and the ingress are reached: kube-proxy has programmed them everywhere."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.network import TRIES, targets

LIMIT = f"{TRIES} of {TRIES} connections from every node"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, silent = {}, {}
    wanted = targets(spec)
    whole = 0
    for node in spec.nodes:
        found = facts.served[node.name]
        if isinstance(found, GpuctlError):
            silent[node.name] = found.what
            continue
        short = [f"{what} {wanted[what]}: {found[what]} of {TRIES}" for what in wanted if found[what] < TRIES]
        if short:
            problems[node.name] = ", ".join(short)
        else:
            whole += 1
    measured = f"{' and '.join(wanted)} from {whole} of {len(spec.nodes)} nodes"
    return over_some(problems, silent, measured, LIMIT, next="iptables-save | grep KUBE on that node; gpuctl manage")


CHECK = Check("CLU-13", "cluster", "ClusterIPs and the ingress are reached from each node", ("services",), judge)
