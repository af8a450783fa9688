"""fmt changes the shape only: golden pairs, whatever YAML can be written in, and the file itself."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.spec.document import parse
from gpuctl.spec.format import formatted

PAIRS = Path(__file__).parent / "format"
EXAMPLES = Path(__file__).parents[3] / "examples"
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["no", "0123", "12:30", "a: b", "# x", "'\"", " "])
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc-: #", min_size=1, max_size=6), inner),
    max_leaves=12,
)  # fmt: skip


def fmt(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpuctl", "fmt", *arguments]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("source", sorted(PAIRS.glob("*.in.yaml")), ids=lambda path: path.name)
def test_golden(source: Path) -> None:
    done = fmt("-", cwd=PAIRS, stdin=source.read_text(encoding="utf-8"))
    expected = source.with_name(source.name.replace(".in.", ".out.")).read_text(encoding="utf-8")
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)
    assert formatted(expected, "x") == (expected, [])


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_formatted(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    assert formatted(text, example.name) == (text, [])


@settings(max_examples=200, deadline=None)
@given(
    tree=TREES,
    flow=st.sampled_from([True, False, None]),
    indent=st.integers(2, 7),
    width=st.sampled_from([8, 40, 200]),
    style=st.sampled_from([None, "'", '"', "|", ">"]),
    space=st.integers(0, 3),
)
def test_whatever_yaml_is_written_stays_the_same_and_once_is_enough(
    tree: object, flow: bool | None, indent: int, width: int, style: str | None, space: int
) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, indent=indent, width=width, default_style=style)
    text = text.replace(
        "\n", "   # words\n" if space == 3 and flow is False and style is None else "\n" * (space + 1), 1
    )
    before = parse(text, "x")
    made, findings = formatted(text, "x")
    if any(finding.rule != "SPEC-03" for finding in before.findings):
        assert findings
        return
    assert findings == []
    assert repr(parse(made, "x").value) == repr(before.value)
    assert formatted(made, "x") == (made, [])


def test_the_file_is_written_once_with_its_mode_through_its_link(tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    real.write_text("a:   1\n", encoding="utf-8")
    real.chmod(0o640)
    (tmp_path / "cluster.yaml").symlink_to(real)
    assert fmt(cwd=tmp_path).stdout == "cluster.yaml: formatted\n"
    assert real.read_text(encoding="utf-8") == "a: 1\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert (tmp_path / "cluster.yaml").is_symlink()
    assert fmt(cwd=tmp_path).stdout == "cluster.yaml: formatted already\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cluster.yaml", "real.yaml"]


def test_check_and_diff_write_nothing(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text("a:   1", encoding="utf-8")
    check, diff = fmt("--check", cwd=tmp_path), fmt("--diff", cwd=tmp_path)
    assert (check.returncode, check.stdout) == (3, "cluster.yaml: not formatted. Next: gpuctl fmt cluster.yaml\n")
    assert diff.returncode == 0
    assert diff.stdout.splitlines()[2:] == [
        "@@ -1 +1 @@", "-a:   1", "\\ No newline at end of file", "+a: 1"
    ]  # fmt: skip
    assert json.loads(fmt("--check", "-o", "json", cwd=tmp_path).stdout)["changed"] is True
    assert spec.read_text(encoding="utf-8") == "a:   1"
    spec.write_text("a: 1\n", encoding="utf-8")
    assert fmt("--check", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("a: [1\nb: 2\n", "cluster.yaml:2:2", "this is not YAML"),
        ("a: 1\na: 2\n", "cluster.yaml:2:1", "is given twice"),
        ("", "cluster.yaml:1:1", "the file is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_place_and_left(
    tmp_path: Path, text: str, place: str, cause: str
) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text(text, encoding="utf-8")
    done = fmt(cwd=tmp_path)
    assert done.returncode == 2
    assert f"where   {place}" in done.stderr
    assert cause in done.stderr
    assert spec.read_text(encoding="utf-8") == text
