"""TCP between pods of different nodes, once around.

Held against the speed of the hosts' network card where it tells one. Where it does not (virtio, a veth) there is no
line rate: then against what the hosts themselves reach over the same bridge, which shows what the pod network costs.
"""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts, Path

OF_CARD, OF_HOSTS = 0.7, 0.2
LIMIT = f">= {OF_CARD:.0%} of the network card, or >= {OF_HOSTS:.0%} of the hosts' own where the card tells no speed"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    if len(spec.nodes) < 2:
        return Measurement("skipped", "one node", LIMIT, "there is no other node to reach")
    problems, silent, reached = {}, {}, []
    for node in spec.nodes:
        path = facts.ways.get(node.name)
        if not isinstance(path, Path) or not path.pods:
            silent[node.name] = path.what if isinstance(path, GpuctlError) else "no other node's pod could be reached"
            continue
        for peer, speed in path.pods.items():
            hosts, card = path.hosts[peer], path.interface.speed
            if isinstance(speed, GpuctlError):
                problems[f"{node.name} to {peer}"] = speed.what
                continue
            if isinstance(hosts, GpuctlError):
                silent[node.name] = f"between the hosts: {hosts.what}"
                continue
            share, of_what = (speed / card, "the card") if card else (speed / hosts, "the hosts' own")
            reached.append((speed, hosts))
            if share < (OF_CARD if card else OF_HOSTS):
                problems[f"{node.name} to {peer}"] = f"{speed / 1e9:.2f} Gbit/s, {share:.0%} of {of_what}"
    if not reached:
        measured = "not measured"
    else:
        slowest, hosts = min(reached)
        measured = f"pods {slowest / 1e9:.2f} Gbit/s at least, hosts there {hosts / 1e9:.2f}, {len(reached)} ways"
    return over_some(
        problems, silent, measured, LIMIT, next="ethtool -k flannel.1 on both; multiqueue of the VMs' interfaces"
    )


CHECK = Check("CLU-10", "cluster", "pods on different nodes have the bandwidth of the hosts", ("paths",), judge)
