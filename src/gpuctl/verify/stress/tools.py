"""What the tools of the stress checks print, read. Pure; ValueError for anything else than what they document.

Formats: nvbandwidth's JSON (its json_output.cpp), nccl-tests' table (its README and PERFORMANCE.md), dcgmi diag -j
(DCGM 3 and 4: the keys of NvvsJsonStrings.h), nvidia-smi topo -m and --query-gpu (nvidia-smi's manual).
Read in those sources; not tried on real hardware.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Diagnosis:
    """What one test of DCGM says of one card. ``test``, ``status`` (pass, fail...) in lower case."""

    test: str
    gpu: str
    status: str
    says: str


@dataclass(frozen=True)
class Reduction:
    """A run of all_reduce_perf. ``bus``: best bus bandwidth in GB/s; ``wrong``: results that were."""

    bus: float
    wrong: int


@dataclass(frozen=True)
class Link:
    """The best PCIe link a card showed under load. ``width`` in lanes."""

    generation: int
    width: int


@dataclass(frozen=True)
class Throttling:
    """``begun``: how often a slowdown began, by card's UUID, in ``seconds`` of observation."""

    seconds: float
    begun: Mapping[str, int]


def _last(text: str) -> str:
    """The last line: where a tool that fails says why."""
    return (text.strip().splitlines() or [""])[-1].strip()


def _json_in(text: str) -> Any:
    """The JSON object in a text that may have other lines before it."""
    start = text.find("{")
    if start < 0:
        raise ValueError(_last(text) or "it said nothing")
    return json.JSONDecoder().raw_decode(text[start:])[0]


def copies(text: str) -> dict[str, tuple[float, ...]]:
    """``nvbandwidth -j``: GB/s of each card by test case."""
    said = _json_in(text)["nvbandwidth"]
    if said.get("error"):
        raise ValueError(str(said["error"]))
    found = {}
    for case in said["testcases"]:
        if case["status"] != "Passed":
            raise ValueError(f"{case['name']}: {case['status']} {case.get('error', '')}".strip())
        found[str(case["name"])] = tuple(float(value) for value in case["bandwidth_matrix"][0])
    return found


def topology(text: str) -> dict[tuple[int, int], str]:
    """``nvidia-smi topo -m``: how two cards are connected (NV12, PIX, SYS...), by their indices, lower first."""
    rows = [ESCAPES.sub("", line).split() for line in text.splitlines()]
    heads = [row for row in rows if row[:1] == ["GPU0"] and row[1:2] != ["X"]]
    count = sum(bool(re.fullmatch(r"GPU\d+", word)) for word in heads[0]) if heads else 1
    cards = {row[0]: row[1 : count + 1] for row in rows if row and re.fullmatch(r"GPU\d+", row[0]) and "X" in row}
    if set(cards) != {f"GPU{number}" for number in range(count)} or any(len(row) != count for row in cards.values()):
        raise ValueError(f"nvidia-smi topo -m shows no matrix of cards: {_last(text)}")
    return {(a, b): cards[f"GPU{a}"][b] for a in range(count) for b in range(a + 1, count)}


def reduction(text: str) -> Reduction:
    """``all_reduce_perf``: the out-of-place columns of every size (time, algbw, busbw, #wrong)."""
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*\d+\s+\d+\s+\w+\s+\w+\s+-?\d+\s", line)]
    if not rows:
        raise ValueError(f"all_reduce_perf shows no result: {_last(text)}")
    return Reduction(max(float(row[7]) for row in rows), sum(int(row[8]) for row in rows))


def diagnoses(text: str) -> tuple[Diagnosis, ...]:
    """``dcgmi diag -j``, of DCGM 3 (gpu_id or gpu_ids) and 4 (entity_id)."""
    said = _json_in(text)
    top = said.get("DCGM Diagnostic") or said.get("DCGM GPU Diagnostic") or said
    if error := top.get("runtime_error") or said.get("runtime_error"):
        raise ValueError(str(error))
    found = [
        Diagnosis(_name(test["name"]), gpu, str(result["status"]).lower(), _words(result.get("warnings")))
        for category in top.get("test_categories", ())
        for test in category["tests"]
        if test
        for result in test["results"]
        for gpu in _gpus(result)
    ]
    if not found:
        raise ValueError("dcgmi diag reports no test")
    return tuple(found)


def _name(text: str) -> str:
    return text.strip().lower().replace(" ", "_")


def _gpus(result: Mapping[str, Any]) -> list[str]:
    listed = result.get("entity_id", result.get("gpu_id", result.get("gpu_ids", "")))
    return [part.strip() for part in str(listed).split(",")]


def _words(warnings: Any) -> str:
    items = warnings if isinstance(warnings, list) else [warnings] if warnings else []
    return "; ".join(str(item.get("warning", item)) if isinstance(item, dict) else str(item) for item in items)


def _samples(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if "GPU-" in line:
            yield [part.strip() for part in line.split(",")]


def links(text: str) -> dict[str, Link]:
    """Samples of ``uuid, pcie.link.gen.current, pcie.link.width.current``: the best, since idle cards lower both."""
    found: dict[str, Link] = {}
    for uuid, generation, width in _samples(text):
        best = found.get(uuid, Link(0, 0))
        found[uuid] = Link(max(best.generation, int(generation)), max(best.width, int(width)))
    if not found:
        raise ValueError(_last(text) or "nvidia-smi said nothing")
    return found


def throttling(text: str) -> Throttling:
    """Samples of ``seconds, uuid`` and clocks_event_reasons (Active or Not Active) of slowdowns."""
    times: list[float] = []
    before: dict[str, list[str]] = {}
    begun: dict[str, int] = {}
    for at, uuid, *reasons in _samples(text):
        if unheard := set(reasons) - {"Active", "Not Active"}:
            raise ValueError(f"nvidia-smi tells no slowdowns: {unheard.pop()}")
        times.append(float(at))
        was = before.get(uuid, ["Not Active"] * len(reasons))
        begun[uuid] = begun.get(uuid, 0) + sum(
            now == "Active" and old != "Active" for old, now in zip(was, reasons, strict=True)
        )
        before[uuid] = reasons
    if not times:
        raise ValueError(_last(text) or "nvidia-smi said nothing")
    return Throttling(max(times) - min(times), begun)
