"""The opt-in stress of the cards: what it showed. gather.py runs it, tools.py reads what the tools print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuctl.render import gpu
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node, Resolved
from gpuctl.verify.stress import tools

# longer is a hang
NCCL_SECONDS = 120.0
DIAG_LEVEL = 3
COPY_TESTS = ("host_to_device_memcpy_ce", "device_to_host_memcpy_ce")


@dataclass(frozen=True)
class Run:
    """An all-reduce among cards of one node, by their indices; ``done``: within NCCL_SECONDS."""

    cards: tuple[int, ...]
    done: bool
    result: tools.Reduction | None


@dataclass(frozen=True)
class Stress:
    """What the stress of a node showed; an error where a tool is missing or did not work.

    ``pairs``: how cards are connected; ``copies``: GB/s of each card by test; ``links`` by UUID, under load;
    ``between``: bus bandwidth in GB/s to the next node; ``baseline``: of all its cards, of an earlier run, None: none.
    """

    pairs: Mapping[tuple[int, int], str] | GpuctlError
    copies: Mapping[str, tuple[float, ...]] | GpuctlError
    links: Mapping[str, tools.Link] | GpuctlError
    runs: tuple[Run, ...] | GpuctlError
    diagnoses: tuple[tools.Diagnosis, ...] | GpuctlError
    throttling: tools.Throttling | GpuctlError
    between: Mapping[str, tools.Reduction] | GpuctlError
    baseline: float | None


def whole(spec: Resolved) -> tuple[Node, ...]:
    """The nodes whose cards are not shared: only there does a pod get a card as it is."""
    return tuple(node for node in gpu.gpu_nodes(spec) if node.gpus and node.gpus.sharing == "none")


def of_all(runs: Iterable[Run], count: int) -> float | None:
    """Bus bandwidth of all the node's cards together."""
    return next((run.result.bus for run in runs if run.result and len(run.cards) == count), None)
