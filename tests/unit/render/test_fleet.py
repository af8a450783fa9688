"""Bundles: same spec, same bytes; what lies in the bundle and what Fleet fetches."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuctl.render import fleet
from gpuctl.spec.load import load
from gpuctl.spec.resolved import Resolved

HERE = Path(__file__).parent / "fleet"
KEYS = {
    "defaultNamespace": str,
    "namespaceLabels": dict,
    "helm": {"releaseName": str, "repo": str, "chart": str, "version": str, "valuesFiles": list},
    "keepResources": bool,
    "dependsOn": list,
}


def spec(**mirrors: Any) -> Resolved:
    resolved = load(HERE / "cluster.yaml").resolved
    assert resolved
    return replace(resolved, site=replace(resolved.site, mirrors=replace(resolved.site.mirrors, **mirrors)))


def bundles(resolved: Resolved) -> dict[str, dict[str, bytes]]:
    chart = {"Chart.yaml": b"name: vendored\n"}
    return {name: fleet.files(resolved, name, r, chart) for name, r in fleet.releases(resolved).items()}


def test_every_bundle_is_its_golden_files() -> None:
    found = {f"{name}/{file}": data for name, files in bundles(spec()).items() for file, data in files.items()}
    golden = {str(path.relative_to(HERE / "golden")) for path in (HERE / "golden").rglob("*") if path.is_file()}
    assert {file for file in found if "/chart/" not in file} == golden
    for file in golden:
        assert found[file].decode() == (HERE / "golden" / file).read_text(encoding="utf-8"), file


def test_fleet_yaml_has_only_keys_that_fleet_knows() -> None:
    def unknown(given: Any, known: Any) -> list[str]:
        if not isinstance(known, dict):
            return [] if isinstance(given, known) else [f"{given!r} is no {known}"]
        wrong = [key for key in given if key not in known]
        return wrong + [w for key in given if key in known for w in unknown(given[key], known[key])]

    for resolved in (spec(), spec(charts="/mirror"), spec(charts="oci://registry.example/charts")):
        for files in bundles(resolved).values():
            assert unknown(yaml.safe_load(files["fleet.yaml"]), KEYS) == []


@pytest.mark.parametrize(
    ("mirror", "source", "inside"),
    [
        (None, {"repo": "https://helm.ngc.nvidia.com/nvidia", "chart": "gpu-operator", "version": "v26.3.3"}, False),
        ("oci://r.example/charts/", {"chart": "oci://r.example/charts/gpu-operator", "version": "v26.3.3"}, False),
        ("/srv/charts", {"chart": "./chart"}, True),
    ],
)
def test_a_chart_lies_in_the_bundle_where_nothing_in_the_cluster_could_fetch_it(
    mirror: str | None, source: dict[str, str], inside: bool
) -> None:
    files = bundles(spec(charts=mirror))["gpu-operator"]
    helm = yaml.safe_load(files["fleet.yaml"])["helm"]
    assert {key: helm[key] for key in helm if key not in ("releaseName", "valuesFiles")} == source
    assert ("chart/Chart.yaml" in files) is inside
    assert "chart/Chart.yaml" in bundles(spec(charts=mirror))["tests"]


def test_what_the_spec_does_not_list_is_not_rendered() -> None:
    resolved = spec()
    assert resolved.gitops
    assert set(bundles(replace(resolved, gitops=replace(resolved.gitops, bundles=("tests",))))) == {"tests"}
    assert bundles(replace(resolved, gitops=None)) == {}


def test_rendering_twice_gives_the_same_bytes() -> None:
    def digest() -> str:
        text = json.dumps({n: {f: d.decode() for f, d in files.items()} for n, files in bundles(spec()).items()})
        return hashlib.sha256(text.encode()).hexdigest()

    assert digest() == digest()


def test_bundles_of_one_namespace_agree_on_its_labels() -> None:
    """Fleet leaves a namespace with a bundle's labels and no others: two bundles would undo each other's for ever."""
    labels: dict[str, set[str]] = {}
    for release in fleet.releases(spec()).values():
        labels.setdefault(release.namespace, set()).add(json.dumps(dict(release.labels), sort_keys=True))
    assert {namespace: len(given) for namespace, given in labels.items()} == dict.fromkeys(labels, 1)


def test_the_hub_waits_for_what_it_needs() -> None:
    description = yaml.safe_load(bundles(spec())["jupyterhub"]["fleet.yaml"])
    assert {"name": "gpuctl-clusters-homelab-policies"} in description["dependsOn"]
    assert description["keepResources"] is True
