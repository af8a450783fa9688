"""A release as a bundle that Fleet reads from a Git repository: a folder with fleet.yaml, values and maybe the chart.

Keys: Fleet's documentation of fleet.yaml and its CRDs. Pure: the files of charts are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from gpuctl.render import gpu, hooks, jupyterhub, policies, storage
from gpuctl.render.charts import Release
from gpuctl.spec.resolved import Resolved

HEADER = "# Written by gpuctl from cluster.yaml. What is changed here is shown, and replaced, by gpuctl gitops push.\n"


@dataclass(frozen=True)
class Bundle:
    """``keep``: what it installed stays when it goes, for users' data hangs on it. ``after``: it waits for these.

    ``only_fleet``: where Fleet does not install it, nobody does. ``later``: it is not ready before the phase jupyter.
    """

    release: Callable[[Resolved], Release | None]
    keep: bool = False
    after: tuple[str, ...] = ()
    only_fleet: bool = False
    later: bool = False


BUNDLES: Mapping[str, Bundle] = {
    "storageclasses": Bundle(storage.classes, keep=True),
    "policies": Bundle(policies.release),
    "jupyterhub": Bundle(jupyterhub.release, keep=True, after=("storageclasses", "policies"), later=True),
    "gpu-operator": Bundle(gpu.release, keep=True),
    "monitoring": Bundle(hooks.monitoring, only_fleet=True),
    "tests": Bundle(hooks.tests, only_fleet=True),
}


def releases(spec: Resolved) -> dict[str, Release]:
    """What Fleet is to install, by bundle; a bundle that the spec gives nothing to install is left out."""
    made = {name: bundle.release(spec) for name, bundle in BUNDLES.items() if spec.by_fleet(name)}
    return {name: release for name, release in made.items() if release}


def vendored(spec: Resolved, release: Release) -> bool:
    """Whether the chart's files lie in the bundle: nothing in the cluster could fetch them."""
    mirror = spec.site.mirrors.charts
    return release.own or (mirror is not None and not mirror.startswith("oci://"))


def files(spec: Resolved, name: str, release: Release, chart: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of one bundle by their names below its folder; ``chart``: the chart's own, where it is vendored."""
    written = {
        "fleet.yaml": HEADER + yaml.safe_dump(description(spec, name, release), sort_keys=False, width=120),
        "values.yaml": release.values_yaml(),
    }
    return {
        **{file: text.encode() for file, text in written.items()},
        **({f"chart/{file}": data for file, data in chart.items()} if vendored(spec, release) else {}),
    }


def description(spec: Resolved, name: str, release: Release) -> dict[str, Any]:
    """What fleet.yaml says."""
    assert spec.gitops
    bundle = BUNDLES[name]
    before = [other for other in bundle.after if other in releases(spec)]
    return {
        "defaultNamespace": release.namespace,
        **({"namespaceLabels": dict(sorted(release.labels.items()))} if release.labels else {}),
        "helm": {"releaseName": release.name, **_source(spec, release), "valuesFiles": ["values.yaml"]},
        **({"keepResources": True} if bundle.keep else {}),
        **({"dependsOn": [{"name": spec.gitops.bundle_name(other)} for other in before]} if before else {}),
    }


def _source(spec: Resolved, release: Release) -> dict[str, str]:
    if vendored(spec, release):
        return {"chart": "./chart"}
    if mirror := spec.site.mirrors.charts:
        return {"chart": f"{mirror.rstrip('/')}/{release.chart}", "version": release.version}
    return {"repo": release.repository, "chart": release.chart, "version": release.version}
