"""Every case is two specs and what `gpuctl diff` prints for them, word for word."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "diff_cases"


def gpuctl_diff(case: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpuctl", "diff", f"{case}.old.yaml", f"{case}.new.yaml", *options],
        cwd=CASES, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("case", ["fields", "blocks", "less"])
def test_what_differs_is_named_with_its_place_and_its_effect(case: str) -> None:
    done = gpuctl_diff(case, "--detailed-exitcode")
    assert done.stdout == (CASES / f"{case}.txt").read_text(encoding="utf-8")
    assert (done.stderr, done.returncode) == ("", 3)
    assert gpuctl_diff(case).returncode == 0


def test_the_same_written_otherwise_is_the_same() -> None:
    done = gpuctl_diff("same", "--detailed-exitcode")
    assert (done.stdout, done.stderr, done.returncode) == ("nothing differs\n", "", 0)


def test_a_spec_that_is_invalid_is_not_compared() -> None:
    done = gpuctl_diff("invalid")
    assert done.stderr == (CASES / "invalid.txt").read_text(encoding="utf-8")
    assert (done.stdout, done.returncode) == ("", 2)


def test_it_is_machine_readable() -> None:
    said = json.loads(gpuctl_diff("blocks", "-o", "json").stdout)
    by_path = {one["path"]: one for one in said["differences"]}
    assert said["schemaVersion"] == 1
    assert said["nodes"] == {
        "added": ["new1", "card1"],
        "removed": ["gpu1", "gpu2"],
        "replaced": ["wk2"],
        "moved": [{"vmId": 9031, "from": "gpu1", "to": "card1"}],
    }
    password = by_path["jupyterhub.auth.password"]
    assert (password["old"], password["new"], password["file"]) == ("env:OLD", "env:NEW", "blocks.new.yaml")
    assert sum(said["summary"].values()) == len(said["differences"])
    assert by_path["nodes.pools[new]"]["effect"]["kind"] == "in place"
    gone = by_path["nodes.pools[gpu]"]
    assert (gone["old"], gone["new"], gone["effect"]["kind"]) == ("set", None, "replace")
