"""The newest etcd snapshot of all servers."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged, over_hosts
from gpuctl.verify.facts import Facts

LIMIT = "<= 24 h old, checksum fits"
SECONDS = 24 * 3600


def judge(spec: Resolved, facts: Facts) -> Measurement:
    names = {node.name for node in spec.servers}
    found = {name: host.snapshot for name, host in facts.reached.items() if name in names and host.snapshot}
    if not found:
        problems = {"snapshots": "no server has one"}
        return over_hosts(facts, problems, "none", LIMIT, next="k3s etcd-snapshot save on a server", among=names)
    name, newest = min(found.items(), key=lambda item: item[1].age)
    measured = f"{newest.age / 3600:.1f} h old on {name}"
    if newest.age > SECONDS:
        problem = {name: f"the newest one, {newest.name}, is {newest.age / 3600:.0f} h old"}
        return judged(problem, measured, LIMIT, next="k3s etcd-snapshot save; check kubernetes.snapshots")
    if newest.intact is None:
        return Measurement("unknown", measured, LIMIT, f"{newest.name} carries no checksum (compressed?)")
    problem = {} if newest.intact else {name: f"the checksum of {newest.name} does not fit: it is damaged"}
    return judged(problem, f"{measured}, intact" if newest.intact else measured, LIMIT, next="k3s etcd-snapshot save")


CHECK = Check("CLU-06", "cluster", "there is a fresh, intact etcd snapshot", ("hosts",), judge)
