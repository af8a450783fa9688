"""`gpuctl explain`: a field, a place, a rule, or the fields to begin with."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gpuctl.spec.explain import described


def explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpuctl", "explain", *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_field_is_explained_with_its_unit_what_it_reaches_and_what_changing_it_does() -> None:
    done = explain("nodes.pools[0].memory")
    assert done.stdout.splitlines() == [
        "nodes.pools.memory",
        "  Memory of each node, pinned.",
        "  type     string",
        "  unit     bytes, written with a unit (16GiB)",
        "  required",
        "  example  16GiB",
        "  changing power-cycle: every VM of the pool, one after the other; "
        "the hub restarts where profiles fit other nodes then",
        "  phases   provision, jupyter",
        "  files    terraform/gpuctl.auto.tfvars.json, helm/jupyterhub.values.yaml",
    ]


def test_without_a_field_the_first_ones_are_listed() -> None:
    done = explain()
    assert done.returncode == 0
    names = [field.name for field in described() if "." not in field.name]
    assert [line.split()[0] for line in done.stdout.split("\n\n")[0].splitlines()] == names
    assert json.loads(explain("-o", "json").stdout) == {"schemaVersion": 1, "holds": names}


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("kubernetes.max_pods", {"default": "110", "changing": {"kind": "restart"}, "phases": ["bootstrap"]}),
        ("storage.nfs", {"changing": {"kind": "refused"}, "adding": {"kind": "in place"}}),
        ("network", {"type": "mapping", "changing": None, "files": []}),
        ("NET-01", {"rule": "NET-01", "severity": "error"}),
        ("spec-04", {"rule": "SPEC-04", "severity": "error", "title": "Every key is known"}),
    ],
)
def test_it_is_machine_readable(name: str, holds: dict[str, object]) -> None:
    said = json.loads(explain(name, "-o", "json").stdout)
    assert said["schemaVersion"] == 1
    for key, value in holds.items():
        found = {"kind": said[key]["kind"]} if isinstance(value, dict) else said[key]
        assert found == value, key


def test_a_name_that_is_none_is_told_its_neighbours() -> None:
    done = explain("network.vip")
    assert done.returncode == 2
    assert "near: " in done.stderr
