"""Packets as large as the pods' interfaces allow arrive whole on every other node."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts, Path

LIMIT = "the pods' MTU, unfragmented, between all pairs"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    names = [node.name for node in spec.nodes]
    pairs = len(names) * (len(names) - 1)
    if not pairs:
        return Measurement("skipped", "one node", LIMIT, "there is no other node to reach")
    problems, silent, good, sizes = {}, {}, 0, set()
    for name in names:
        path = facts.ways.get(name)
        if not isinstance(path, Path):
            silent[name] = path.what if isinstance(path, GpuctlError) else "not measured"
            continue
        sizes.add(path.mtu)
        short = {peer: size for peer, size in path.passed.items() if size < path.mtu}
        good += len(path.passed) - len(short)
        if short:
            problems[name] = ", ".join(
                f"{size} of {path.mtu} bytes reach {peer}" if size else f"nothing reaches {peer}"
                for peer, size in short.items()
            )
    measured = f"{'/'.join(map(str, sorted(sizes))) or 'no'} bytes, {good} of {pairs} pairs"
    return over_some(
        problems, silent, measured, LIMIT, next="one MTU on bridge, VMs and pods: network.mtu, then gpuctl plan"
    )


CHECK = Check("CLU-11", "cluster", "the largest packets of pods get through between all nodes", ("paths",), judge)
