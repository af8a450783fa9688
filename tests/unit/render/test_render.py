"""Rendering is pure: the example gives exactly the golden bytes. Renew them with `gpuctl render --out FOLDER`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpuctl.render import rendered
from gpuctl.spec.load import load

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"


def _files(spec: Path) -> dict[str, str]:
    resolved = load(spec).resolved
    assert resolved
    return rendered(resolved)


def test_the_example_renders_to_the_golden_files() -> None:
    golden = GOLDEN / "homelab"
    files = _files(ROOT / "examples/homelab.yaml")
    assert set(files) == {str(path.relative_to(golden)) for path in golden.rglob("*") if path.is_file()}
    for name, text in files.items():
        assert text == (golden / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("cpus: 16", "cpus: 8", "terraform/gpuctl.auto.tfvars.json"),
        ("v1.34.4+k3s1", "v1.34.5+k3s1", "ansible/inventory.json"),
        ("api_vip: 10.0.0.100", "api_vip: 10.0.0.99", "ansible/inventory.json"),
    ],
)
def test_a_change_of_the_spec_reaches_the_file_it_belongs_to_and_no_other(
    tmp_path: Path, old: str, new: str, where: str
) -> None:
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    changed = tmp_path / "cluster.yaml"
    changed.write_text(text.replace(old, new), encoding="utf-8")
    before, after = _files(ROOT / "examples/homelab.yaml"), _files(changed)
    assert [name for name in before if before[name] != after[name]] == [where]


def test_tokens_are_placeholders_that_only_the_play_fills() -> None:
    inventory = _files(ROOT / "examples/homelab.yaml")["ansible/inventory.json"]
    tokens = set(re.findall(r"token: (\S+?)\\\\n", inventory.replace("\\n", "\\\\n")))
    assert tokens
    assert all("@" in token for token in tokens), tokens


def test_every_server_speaks_vrrp_to_the_others_only() -> None:
    inventory = json.loads(_files(ROOT / "examples/homelab.yaml")["ansible/inventory.json"])
    servers = inventory["servers"]["hosts"]
    for number, name in enumerate(("cp1", "cp2", "cp3"), start=11):
        text = json.dumps(servers[name])
        peers = {f"10.0.0.{other}" for other in (11, 12, 13)} - {f"10.0.0.{number}"}
        listed = re.search(r"unicast_peer {(.*?)}", text)
        assert listed
        assert set(re.findall(r"10\.0\.0\.\d+", listed[1])) == peers
