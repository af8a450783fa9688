"""The readers of the stress tools' outputs. The samples are ours, after the documented formats (outputs/README.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuctl.verify.stress import tools


def sample(name: str) -> str:
    return (Path(__file__).parent / f"outputs/{name}.txt").read_text(encoding="utf-8")


def test_copies_of_each_card() -> None:
    assert tools.copies(sample("nvbandwidth")) == {
        "host_to_device_memcpy_ce": (24.61, 20.4),
        "device_to_host_memcpy_ce": (25.9, 26.1),
    }


def test_the_topology_by_pairs() -> None:
    pairs = tools.topology(sample("topology"))
    assert len(pairs) == 6
    assert {pair for pair, how in pairs.items() if how == "NV12"} == {(0, 1), (2, 3)}
    assert pairs[0, 3] == "PHB"
    assert tools.topology(sample("topology-one")) == {}


def test_a_reduction_has_its_best_bus_bandwidth_and_what_was_wrong() -> None:
    assert tools.reduction(sample("all_reduce")) == tools.Reduction(199.81, 0)
    assert tools.reduction(sample("all_reduce-wrong")) == tools.Reduction(199.81, 3)


def test_diagnoses_of_both_generations() -> None:
    four = tools.diagnoses(sample("dcgm4"))
    assert [(d.test, d.gpu, d.status) for d in four] == [
        ("software", "0", "pass"),
        ("software", "1", "pass"),
        ("memory_bandwidth", "0", "pass"),
        ("memory_bandwidth", "1", "fail"),
        ("targeted_stress", "0", "skip"),
    ]
    assert "below the minimum of 1121.00" in four[3].says
    three = tools.diagnoses(sample("dcgm3"))
    assert [(d.test, d.gpu, d.status) for d in three] == [
        ("memory_bandwidth", "0", "pass"),
        ("memory_bandwidth", "1", "pass"),
        ("targeted_stress", "0", "fail"),
    ]
    assert three[2].says == "GPU 0 reached 15000 of 17250"


def test_links_at_their_best() -> None:
    assert tools.links(sample("links")) == {"GPU-a": tools.Link(4, 16), "GPU-b": tools.Link(2, 16)}


def test_a_slowdown_counts_when_it_begins() -> None:
    assert tools.throttling(sample("slowdowns")) == tools.Throttling(120.0, {"GPU-a": 3, "GPU-b": 1})


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (tools.copies, sample("nvbandwidth-waived"), "host_to_device_memcpy_ce: Waived"),
        (tools.copies, sample("nvbandwidth-error"), "no CUDA-capable device"),
        (tools.copies, "", "it said nothing"),
        (tools.topology, "nvidia-smi topo: refused", "refused"),
        (tools.topology, "", "no matrix"),
        (tools.topology, "\tGPU0\tGPU1\nGPU0\t X \tPHB\n", "no matrix"),
        (tools.reduction, sample("all_reduce-error"), "unhandled cuda error"),
        (tools.reduction, "", "no result"),
        (tools.diagnoses, sample("dcgm-refused"), "unable to establish a connection"),
        (tools.diagnoses, '{"DCGM Diagnostic": {"runtime_error": "no GPUs"}}', "no GPUs"),
        (tools.diagnoses, "{}", "no test"),
        (tools.links, "No devices were found", "No devices were found"),
        (tools.throttling, "", "nvidia-smi said nothing"),
        (tools.throttling, "1, GPU-a, [N/A]", "tells no slowdowns"),
    ],
)
def test_anything_else_is_refused_with_what_it_said(read: Callable[[str], Any], text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(text)
