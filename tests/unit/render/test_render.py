"""Rendering is pure: the example gives exactly the golden bytes. Renew them with `gpuctl render --out FOLDER`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpuctl.render import gpu, rendered
from gpuctl.spec.load import load

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"


def _files(spec: Path) -> dict[str, str]:
    resolved = load(spec).resolved
    assert resolved
    return rendered(resolved)


@pytest.mark.parametrize("spec", [ROOT / "examples/homelab.yaml", GOLDEN.parent / "shared.yaml"], ids=lambda s: s.stem)
def test_a_spec_renders_to_its_golden_files(spec: Path) -> None:
    golden = GOLDEN / spec.stem
    files = _files(spec)
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


def test_a_registry_of_the_site_is_every_host_s_first_source_of_images(tmp_path: Path) -> None:
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    changed = tmp_path / "cluster.yaml"
    changed.write_text(
        text.replace("  host: {", "  mirrors: {registry: http://registry.example:5000/}\n  host: {", 1),
        encoding="utf-8",
    )
    inventory = json.loads(_files(changed)["ansible/inventory.json"])
    hosts = {**inventory["servers"]["hosts"], **inventory["agents"]["hosts"]}
    wanted = "mirrors:\n  '*':\n    endpoint:\n    - http://registry.example:5000\n"
    assert {host["gpuctl_k3s"]["registries"] for host in hosts.values()} == {wanted}


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


def test_what_the_nodes_offer_follows_from_how_their_cards_are_shared() -> None:
    resolved = load(GOLDEN.parent / "shared.yaml").resolved
    assert resolved
    offered = {node.name: gpu.offered(resolved, node) for node in resolved.nodes}
    assert offered == {
        "cp1": {},
        "cp2": {},
        "cp3": {},
        "whole1": {"nvidia.com/gpu": 2},
        "sliced1": {"nvidia.com/gpu": 6},
        "cut1": {"nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-3g.20gb": 1},
    }
    labels = {node.name: gpu.node_labels(node) for node in resolved.agents}
    assert labels == {
        "whole1": {},
        "sliced1": {"nvidia.com/device-plugin.config": "time-slicing-3"},
        "cut1": {"nvidia.com/mig.config": "all-balanced"},
    }
    left = gpu.label_changes(
        resolved.node("whole1"),
        {"nvidia.com/device-plugin.config": "time-slicing-3", "nvidia.com/mig.config": "all-1g.5gb"},
    )
    assert left == {"nvidia.com/device-plugin.config": None, "nvidia.com/mig.config": "all-disabled"}
