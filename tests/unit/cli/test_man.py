"""What the command line says of itself: variables, the manual page, docs/cli.md, completion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from gpuctl.cli import app
from gpuctl.cli.man import EXITS
from gpuctl.run.errors import Exit

ROOT = Path(__file__).parents[3]
# what the command is for, not how it is carried out
WITHOUT_VARIABLE = {"--version", "--markdown", "--install-completion", "--show-completion"}


def gpuctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # completion goes by the program's name
        [Path(sys.executable).with_name("gpuctl"), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def options(command: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """(command, option, variable)."""
    for param in command.params:
        if param.opts[0].startswith("--") or param.name == "spec":
            yield name, max(param.opts, key=len), param.envvar or ""
    for key, inner in getattr(command, "commands", {}).items():
        yield from options(inner, key)


def test_every_option_has_a_variable_of_its_own_name() -> None:
    found = [one for one in options(get_command(app)) if one[1] not in WITHOUT_VARIABLE]
    assert len(found) > 80
    for command, option, variable in found:
        name = option.removeprefix("--").replace("-", "_").upper()
        assert variable in (f"GPUCTL_{name}", f"GPUCTL_{command.upper()}_{name}"), (command, option)


def test_a_variable_does_what_its_option_does() -> None:
    unformatted = "tests/unit/spec/format/messy.in.yaml"
    assert gpuctl("fmt", GPUCTL_SPEC=unformatted, GPUCTL_FMT_CHECK="1").returncode == 3
    assert gpuctl("version", GPUCTL_OUTPUT="json").stdout.startswith("{")
    assert gpuctl("version", "-o", "text", GPUCTL_OUTPUT="json").stdout.startswith("gpuctl ")


def test_the_documented_command_line_is_the_generated_one() -> None:
    # gpuctl man --markdown > docs/cli.md
    assert gpuctl("man", "--markdown", COLUMNS="40").stdout == (ROOT / "docs/cli.md").read_text(encoding="utf-8")


def test_every_exit_code_is_explained() -> None:
    assert set(EXITS) == set(Exit)


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
def test_the_manual_page_is_troff_without_a_complaint() -> None:
    page = gpuctl("man").stdout
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-wall", "-P-cbou"], input=page, capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.returncode) == ("", 0)
    text = re.sub(r"\s+", " ", done.stdout)
    assert "gpuctl gitops push [OPTIONS] [spec]" in text
    assert "GPUCTL_DETAILED_EXITCODE" in text


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ("bash", {"COMP_WORDS": "gpuctl val", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "gpuctl val"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "gpuctl val", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_completion(shell: str, environment: dict[str, str]) -> None:
    script = gpuctl(_GPUCTL_COMPLETE=f"source_{shell}").stdout
    assert f"_GPUCTL_COMPLETE=complete_{shell}" in script
    said = gpuctl(_GPUCTL_COMPLETE=f"complete_{shell}", **environment).stdout
    assert re.findall(r"[a-z]*val[a-z]*", said)[0] == "validate"


def completed(words: str) -> list[str]:
    count = str(len(words.split(" ")) - 1)
    return gpuctl(_GPUCTL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count).stdout.split()


def test_completion_knows_nodes_checks_and_values() -> None:
    nodes = completed("gpuctl apply examples/homelab.yaml --yes --replace wk")
    assert nodes == ["wk-gpu1", "wk-gpu2", "wk-gpu3", "wk-gpu4"]
    assert completed("gpuctl apply nowhere.yaml --replace wk") == []
    assert "INF-01" in completed("gpuctl verify --only INF")
    assert completed("gpuctl validate -o s") == ["sarif"]
