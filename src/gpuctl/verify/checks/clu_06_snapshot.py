"""The newest etcd snapshot of all servers."""

from __future__ import annotations

from datetime import timedelta

from gpuctl.spec.resolved import Resolved
from gpuctl.spec.schedule import longest_pause
from gpuctl.verify.base import Check, Measurement, judged, over_hosts
from gpuctl.verify.facts import Facts

DAY, GRACE = timedelta(days=1), timedelta(hours=1)


def oldest(spec: Resolved) -> float:
    """Seconds: a day, but never less than the schedule leaves between two snapshots."""
    return max(DAY, longest_pause(spec.kubernetes.snapshot_schedule) + GRACE).total_seconds()


def judge(spec: Resolved, facts: Facts) -> Measurement:
    seconds = oldest(spec)
    limit = f"<= {seconds / 3600:.0f} h old, checksum fits"
    names = {node.name for node in spec.servers}
    found = {name: host.snapshot for name, host in facts.reached.items() if name in names and host.snapshot}
    if not found:
        problems = {"snapshots": "no server has one"}
        return over_hosts(facts, problems, "none", limit, next="k3s etcd-snapshot save on a server", among=names)
    name, newest = min(found.items(), key=lambda item: item[1].age)
    measured = f"{newest.age / 3600:.1f} h old on {name}"
    if newest.age > seconds:
        problem = {name: f"the newest one, {newest.name}, is {newest.age / 3600:.0f} h old"}
        return judged(problem, measured, limit, next="k3s etcd-snapshot save; see kubernetes.snapshot_schedule")
    if newest.intact is None:
        return Measurement("unknown", measured, limit, f"{newest.name} carries no checksum (compressed?)")
    problem = {} if newest.intact else {name: f"the checksum of {newest.name} does not fit: it is damaged"}
    return judged(problem, f"{measured}, intact" if newest.intact else measured, limit, next="k3s etcd-snapshot save")


CHECK = Check("CLU-06", "cluster", "there is a fresh, intact etcd snapshot", ("hosts",), judge)
