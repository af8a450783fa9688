"""One small lab with everything that runs on it, for the modules of this folder; it goes when they are done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.conftest import FULL_SMALL, Lab, _lab


@pytest.fixture(scope="package")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One server and one worker."""
    yield from _lab("tfull", FULL_SMALL, tmp_path_factory.mktemp("full"))


@dataclass(frozen=True)
class Applied:
    """The first apply on a lab: its output, and the report that it left."""

    said: str
    report: dict[str, Any]


@pytest.fixture(scope="package")
def applied(full: Lab) -> Applied:
    assert "jupyter" in full.gpuctl("plan", "--detailed-exitcode", code=3).stdout
    said = full.gpuctl("apply", "--yes").stdout
    return Applied(said, json.loads((full.workspace / "reports/verify.json").read_text(encoding="utf-8")))
