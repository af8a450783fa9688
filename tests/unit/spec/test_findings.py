"""Every case is a spec and what `gpuctl validate` prints for it, word for word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda case: case.stem)
def test_findings(case: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuctl", "validate", case.name],
        cwd=CASES, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "500"},
    )  # fmt: skip
    expected = case.with_suffix(".txt").read_text(encoding="utf-8")
    assert done.stdout == expected
    assert done.stderr == ""
    assert done.returncode == (0 if expected.splitlines()[-1].startswith("0 errors") else 2)


def test_a_finding_is_machine_readable() -> None:
    import json

    done = subprocess.run(
        [sys.executable, "-m", "gpuctl", "validate", "unknown-key.yaml", "-o", "json"],
        cwd=CASES, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert (answer["errors"], done.returncode) == (1, 2)
    finding = answer["findings"][0]
    assert (finding["line"], finding["column"], finding["rule"]) == (10, 5, "SPEC-04")
