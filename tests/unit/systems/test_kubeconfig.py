"""Merging into the operator's kubeconfig: nothing of another cluster is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import Workspace
from gpuctl.spec.load import load
from gpuctl.systems import kubeconfig

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
assert SPEC
OURS = f"https://{SPEC.network.api_vip}:6443"


def written(path: Path, server: str, user: str = "u", name: str = "homelab", context: str = "homelab") -> str:
    text = yaml.safe_dump(
        {
            "clusters": [{"name": name, "cluster": {"server": server}}],
            "users": [{"name": user, "user": {"token": "precious"}}],
            "contexts": [{"name": context, "context": {"cluster": name, "user": user}}],
        }
    )
    path.write_text(text, encoding="utf-8")
    return text


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    made.create()
    written(made.kubeconfig, OURS, "homelab-admin")
    return made


@pytest.fixture
def operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


@pytest.mark.parametrize(
    "other",
    [{}, {"user": "homelab-admin"}, {"name": "else"}, {"name": "else", "context": "else", "user": "homelab-admin"}],
)
def test_another_cluster_of_the_name_is_refused_and_stays(
    workspace: Workspace, operators: Path, other: dict[str, str]
) -> None:
    assert SPEC
    before = written(operators, "https://192.0.2.7:6443", **other)
    with pytest.raises(GpuctlError) as caught:
        kubeconfig.merge(workspace, SPEC)
    assert caught.value.exit_code == Exit.USAGE
    assert "https://192.0.2.7:6443" in caught.value.cause
    assert OURS in caught.value.cause
    assert operators.read_text(encoding="utf-8") == before


def test_an_older_entry_of_ours_is_replaced_and_others_stay_behind_a_symlink(
    workspace: Workspace, operators: Path, tmp_path: Path
) -> None:
    assert SPEC
    real = tmp_path / "real"
    written(real, "https://192.0.2.7:6443", "theirs", "else", "else")
    operators.symlink_to(real)
    for _ in range(2):
        assert kubeconfig.merge(workspace, SPEC) == real
    assert operators.is_symlink()
    found: dict[str, Any] = yaml.safe_load(real.read_text(encoding="utf-8"))
    assert [c["name"] for c in found["clusters"]] == ["else", "homelab"]
    assert [u["name"] for u in found["users"]] == ["theirs", "homelab-admin"]
    assert kubeconfig.remove(SPEC)
    assert operators.is_symlink()
    found = yaml.safe_load(real.read_text(encoding="utf-8"))
    assert [u["name"] for u in found["users"]] == ["theirs"]
