"""Whatever the file holds, the answer is findings or a resolved spec, never another exception."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.load import load

EXAMPLE = Path(__file__).parents[3] / "examples/homelab.yaml"
# what is neither finding nor resolved is one clear error: of a file that cannot be read at all
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _paths(inner, (*path, key))
    return found


TREE = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(_paths(TREE)), junk=JUNK)
def test_junk_anywhere_is_a_finding(tmp_path: Path, path: tuple[object, ...], junk: object) -> None:
    tree = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    here = tree
    for part in path[:-1]:
        here = here[part]  # type: ignore[index]
    here[path[-1]] = junk  # type: ignore[index]
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    loaded = load(file)
    assert loaded.resolved or any(finding.severity == "error" for finding in loaded.findings)
    for finding in loaded.findings:
        assert finding.at.line >= 1
        assert finding.fix


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_clearly(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_bytes(data)
    try:
        loaded = load(file)
    except GpuctlError as error:
        assert error.what
        return
    assert loaded.resolved is None
    assert loaded.findings


def test_nodes_are_expanded_with_names_addresses_and_ids_in_order() -> None:
    resolved = load(EXAMPLE).resolved
    assert resolved
    names = ["cp1", "cp2", "cp3", "wk-gpu1", "wk-gpu2", "wk-gpu3", "wk-gpu4"]
    assert [node.name for node in resolved.nodes] == names
    assert resolved.node("wk-gpu4").address == IPv4Address("10.0.0.24")
    assert len({node.vm_id for node in resolved.nodes}) == 7


def test_a_site_file_replaces_the_site_block_whole_and_its_paths_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    site = tmp_path / "site.yaml"
    site.write_text(
        "proxmox:\n  endpoint: https://other.example:8006\n  ca: file:./ca.pem\n  token: file:./token\n"
        "  node: other\n  storage: {os: fast, scratch: nvme, images: iso}\n  bridge: vmbr9\n",
        encoding="utf-8",
    )
    resolved = load(EXAMPLE, site).resolved
    assert resolved
    assert resolved.endpoint_name == "other.example"
    assert resolved.site.proxmox.ca == str(tmp_path / "ca.pem")
    assert resolved.site.proxmox.token.value == str(tmp_path / "token")
    assert resolved.site.host.memory is None
