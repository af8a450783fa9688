"""What a commit must not do: take another bundle's name, give a release two owners or none, delete data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from gpuctl.context import Context
from gpuctl.phases.manage import bundles, fleet
from gpuctl.render.fleet import releases
from gpuctl.run.errors import GpuctlError
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import Workspace
from gpuctl.spec.load import load
from gpuctl.systems.helm import GIVEN, OWNER, Installed

SPEC = Path(__file__).parents[1] / "render/fleet/cluster.yaml"
OPERATOR = "gpuctl-clusters-homelab-gpu-operator"
CLAIM = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n"
KEPT = CLAIM.replace("{name: data}", "{name: data, annotations: {helm.sh/resource-policy: keep}}")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    spec = load(SPEC).resolved
    assert spec
    workspace = Workspace(tmp_path / "workspace")
    workspace.create()
    return Context(spec, workspace, lambda _: None, Redactor(), Flag())


def installed(ctx: Context, name: str, /, **changed: Any) -> dict[str, Installed]:
    """The release of a bundle, by default gpuctl's."""
    release = releases(ctx.spec)[name]
    labels = {OWNER: ctx.workspace.cluster_id}
    have = Installed(release.name, release.namespace, 1, "deployed", release.chart, release.version, {}, "", labels)
    return {f"{release.namespace}/{release.name}": replace(have, **changed)}


def owners(ctx: Context, have: dict[str, Installed]) -> None:
    bundles.refuse_two_owners(ctx, have, releases(ctx.spec))


def test_a_release_has_one_owner(ctx: Context) -> None:
    owners(ctx, {})
    owners(ctx, installed(ctx, "gpu-operator", bundle=OPERATOR))
    owners(ctx, installed(ctx, "gpu-operator", labels={GIVEN: OPERATOR}))
    for changed, cause in (
        ({}, "gpuctl installed it by Helm"),
        ({"labels": {}}, "was not made by gpuctl"),
        ({"labels": {GIVEN: "gpuctl-other"}}, "was not made by gpuctl"),
        ({"bundle": "theirs"}, "Fleet's bundle theirs installed it"),
        ({"labels": {OWNER: "another", GIVEN: OPERATOR}}, "was not made by gpuctl"),
    ):
        with pytest.raises(GpuctlError, match="two owners") as caught:
            owners(ctx, installed(ctx, "gpu-operator", **changed))
        assert cause in caught.value.cause


def test_a_release_is_not_left_without_an_owner(ctx: Context) -> None:
    have = installed(ctx, "gpu-operator", bundle=OPERATOR)
    with pytest.raises(GpuctlError, match="still belongs to Fleet") as caught:
        bundles.refuse_orphans(ctx, have, {"gpu-operator": "removed"})
    assert "gpuctl gitops adopt gpu-operator" in caught.value.next
    bundles.refuse_orphans(ctx, have, {"gpu-operator": "changed", "tests": "removed"})


@pytest.mark.parametrize(
    ("manifest", "changed", "word", "lost"),
    [
        (CLAIM, {}, "removed", True),
        (CLAIM, {"kept": True}, "removed", False),
        (KEPT, {}, "removed", False),
        ("", {}, "removed", False),
        (CLAIM, {"name": "old-name"}, "changed", True),
        (CLAIM, {"namespace": "old-namespace", "kept": True}, "changed", False),
    ],
)
def test_data_is_not_deleted(ctx: Context, manifest: str, changed: dict[str, Any], word: str, lost: bool) -> None:
    have = installed(ctx, "tests", bundle="gpuctl-clusters-homelab-tests", manifest=manifest, **changed)
    if not lost:
        bundles.refuse_data_loss(ctx, have, {"tests": word})
        return
    with pytest.raises(GpuctlError, match="would delete data") as caught:
        bundles.refuse_data_loss(ctx, have, {"tests": word})
    assert caught.value.where == "PersistentVolumeClaim data"


def collide(ctx: Context, *items: dict[str, Any]) -> None:
    seen = fleet.Seen(True, None, {str(item["metadata"]["name"]): item for item in items})
    bundles.refuse_collisions(ctx, seen, "", releases(ctx.spec))


def test_names_of_bundles_are_ours_alone(ctx: Context) -> None:
    ours = {"metadata": {"name": OPERATOR, "labels": {fleet.REPO_LABEL: "gpuctl"}}}
    collide(ctx, ours, {"metadata": {"name": "fleet-agent-local"}})
    for labels, cause in (({fleet.REPO_LABEL: "theirs"}, "comes from theirs"), (None, "by hand")):
        with pytest.raises(GpuctlError, match="another bundle of the name") as caught:
            collide(ctx, {"metadata": {"name": OPERATOR, "labels": labels}})
        assert cause in caught.value.cause
