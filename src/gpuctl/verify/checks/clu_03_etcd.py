"""etcd members, asked one by one."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_hosts
from gpuctl.verify.facts import Facts

NEXT = "systemctl status k3s on the host"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    servers = [node.name for node in spec.servers]
    limit = f"{len(servers)} members, consistent"
    members = {name: host.etcd for name, host in facts.reached.items() if name in servers and host.etcd}
    problems = {name: "no etcd member answers" for name in servers if name in facts.reached and name not in members}
    ids = {member.id for member in members.values()}
    for name, member in members.items():
        known = {member.id, *member.peers}
        if not member.healthy or not member.has_leader:
            problems[name] = "unhealthy" if member.has_leader else "has no leader"
        elif len(known) != len(servers):
            problems[name] = f"knows {len(known)} members"
        elif not ids <= known:
            problems[name] = "belongs to another etcd cluster"
    leaders = [name for name, member in members.items() if member.leader]
    measured = f"{len(members)} members, leader {', '.join(leaders) or 'not seen'}"
    # a member that was not reached may be the leader
    if len(leaders) > 1 or (not leaders and len(members) == len(servers)):
        problems["leader"] = f"{len(leaders)} of them"
    return over_hosts(facts, problems, measured, limit, next=NEXT, among=servers)


CHECK = Check(
    "CLU-03",
    "cluster",
    "etcd has one member per control plane, all healthy, with one leader",
    ("hosts",),
    judge,
    "Talos",
)
