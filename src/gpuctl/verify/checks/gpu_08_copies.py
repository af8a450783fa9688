"""Copies between host and card, by nvbandwidth. Not tried on real hardware."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts
from gpuctl.verify.stress import COPY_TESTS, whole
from gpuctl.verify.stress.judging import split, with_whole_cards

GB_PER_S = {"a100-pcie-40gb": 21.0, "a100-pcie-80gb": 21.0}
LIMIT = ">= 21 GB/s both ways on an A100 PCIe"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    found, silent = split(facts.stressed, lambda stress: stress.copies)
    problems: dict[str, str] = {}
    speeds: list[float] = []
    for node in whole(spec):
        copies = found.get(node.name)
        limit = GB_PER_S.get(node.gpus.model) if node.gpus else None
        if copies is None:
            continue
        if limit is None or any(test not in copies for test in COPY_TESTS):
            silent[node.name] = "nvbandwidth did not run every test" if limit else "no limit is known for its model"
            continue
        for test in COPY_TESTS:
            speeds += copies[test]
            slow = [f"card {index} {speed:.1f}" for index, speed in enumerate(copies[test]) if speed < limit]
            if slow:
                problems[f"{node.name} {test}"] = f"{', '.join(slow)} GB/s"
    measured = f"{min(speeds):.1f} GB/s at least" if speeds else "not measured"
    return over_some(problems, silent, measured, LIMIT, next="NUMA node of the VM, q35 with pcie=1")


CHECK = Check(
    "GPU-08",
    "gpu",
    "cards and hosts copy as fast as they should",
    ("stress",),
    judge,
    "azurehpc-health-checks",
    with_whole_cards,
)
