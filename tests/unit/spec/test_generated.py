"""Every property of tests/generated on a few of its documents, always the same ones. scripts/soak tries many more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from gpuctl.spec.document import parse
from tests.generated.documents import KINDS, ROOT, Document, known
from tests.generated.properties import Subject, ansible_changes_nothing, hold

EXAMPLES = {"grammar": 80, "mutation": 80, "bytes": 80}


@pytest.mark.parametrize("kind", KINDS)
def test_every_property_holds(kind: str, tmp_path: Path) -> None:
    accepted = []

    @settings(
        max_examples=EXAMPLES[kind], derandomize=True, database=None, deadline=None,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(KINDS[kind])
    def hold_all(document: Document) -> None:
        subject = Subject.write(document, tmp_path)
        hold(subject, slow=False)
        accepted.append(subject.accepted is not None)

    hold_all()
    # else the half of the properties that is about accepted specs says nothing
    assert kind != "grammar" or sum(accepted) >= len(accepted) / 10


def test_every_property_can_be_checked_on_the_known_specs(tmp_path: Path) -> None:
    for text in known(valid=True):
        assert "fits gpuctl schema" in hold(Subject.write(Document(text), tmp_path), slow=False)


def test_no_depth_ends_the_process() -> None:
    # PyYAML's composer, written in C, overflows the stack: nothing could be caught
    for text in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000, "[" * 100_000 + "]" * 100_000):
        (finding,) = parse(text, "cluster.yaml").findings
        assert (finding.at.line, finding.rule) == (1, "SPEC-01")
        assert "nested too deeply" in finding.message


def test_ansible_evaluates_nothing_of_a_spec(tmp_path: Path) -> None:
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    apt = 'apt: "deb [{{ 7 * 7 }} {% raw %} {#] https://mirror.example/{{7*7}} ./"'
    text = text.replace("    bridge: vmbr0", f"    bridge: vmbr0\n  mirrors: {{{apt}}}")
    subject = Subject.write(Document(text.encode()), tmp_path)
    assert "{{ 7 * 7 }} {% raw %}" in subject.files["ansible/inventory.json"]
    ansible_changes_nothing(subject)
