"""The examples for CI: valid workflows whose every gpuctl command line is one that gpuctl understands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuctl.spec.format import formatted

CI = Path(__file__).parents[3] / "examples/ci"
SCHEMAS = {"github-actions.yaml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}
BIN = Path(sys.executable).parent


def scripts(part: Any, key: str = "") -> Iterator[str]:
    """Whatever a runner would hand to a shell."""
    if isinstance(part, dict):
        for name, inner in part.items():
            yield from scripts(inner, str(name))
    elif isinstance(part, list):
        for inner in part:
            yield from scripts(inner, key)
    elif key in ("run", "script", "before_script") and isinstance(part, str):
        yield from part.splitlines()


def commands() -> list[tuple[str, str]]:
    found = []
    for file in sorted(CI.iterdir()):
        for line in scripts(yaml.safe_load(file.read_text(encoding="utf-8"))):
            found += [(file.name, part.strip()) for part in re.split(r"\|\|?|&&|>|;", line) if "gpuctl " in f"{part} "]
    return [(file, command) for file, command in found if command.startswith("gpuctl ")]


def test_both_check_plan_apply_and_verify() -> None:
    for file in SCHEMAS:
        names = {command.split()[1] for name, command in commands() if name == file}
        assert names >= {"fmt", "validate", "plan", "apply", "verify"}
        assert [c for n, c in commands() if n == file and " apply " in c and "--yes" in c and "--junit" in c]


@pytest.mark.parametrize(("file", "command"), commands())
def test_its_options_exist(file: str, command: str) -> None:
    # --help is looked at last: what stands before it must be understood
    done = subprocess.run(
        [BIN / "gpuctl", *command.split()[1:], "--help"], capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    assert (done.stderr, done.returncode) == ("", 0), file


def test_an_option_that_does_not_exist_would_be_noticed() -> None:
    done = subprocess.run([BIN / "gpuctl", "plan", "--nowhere", "--help"], capture_output=True, timeout=60)
    assert done.returncode == 2


@pytest.mark.parametrize("file", SCHEMAS)
def test_it_is_what_the_service_reads(file: str) -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", SCHEMAS[file], CI / file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (CI / file).read_text(encoding="utf-8")
    assert formatted(text, file) == (text, [])
