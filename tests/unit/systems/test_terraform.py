"""Runs of one workspace at the same time: the plan a run has shown is the plan it applies."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event as Flag

import pytest

from gpuctl.context import Context
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import Workspace
from gpuctl.spec.load import load
from gpuctl.systems.terraform import VARIABLES, Terraform

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
# its "plan" is a copy of the variables it was given; apply copies the plan to "applied"
TOOL = """#!/bin/sh
for word; do
    case "$word" in
    -out=*) out=${word#-out=} ;;
    -var-file=*) variables=${word#-var-file=} ;;
    *.tfplan) plan=$word ;;
    esac
done
case "$1" in
plan) cp "$variables" "$out" ;;
show) echo '{}' ;;
apply) cmp -s "$plan" gpuctl.auto.tfvars.json && cp "$plan" applied ;;
esac
"""


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    assert SPEC
    tool = tmp_path / "bin/terraform"
    tool.parent.mkdir()
    tool.write_text(TOOL, encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    workspace = Workspace.of(tmp_path / "cluster.yaml", SPEC.name, SPEC.endpoint_name)
    workspace.create()
    return Context(SPEC, workspace, lambda _: None, Redactor(), Flag())


def run(ctx: Context, number: int) -> Terraform:
    made = Terraform(ctx.spec.site, ctx.workspace, "TOKEN", ctx)
    made.prepare({"number": number})
    return made


def test_a_plan_made_meanwhile_by_another_run_is_not_the_one_applied(ctx: Context) -> None:
    applying = run(ctx, 1)
    saved, _ = applying.plan()
    looking = run(ctx, 2)
    looking.plan()
    applying.apply(saved, parallelism=1, on_event=lambda _: None)
    folder = ctx.workspace.terraform
    assert json.loads((folder / "applied").read_text()) == {"number": 1}
    assert json.loads((folder / VARIABLES).read_text()) == {"number": 1}


def test_what_a_killed_run_left_goes_and_what_a_living_one_has_stays(ctx: Context) -> None:
    # no process has a pid above 2^22
    dead, alive = (ctx.workspace.terraform / f"run-{pid}-x" for pid in (1 << 23, 1))
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "apply.tfplan").touch()
    run(ctx, 1)
    assert not dead.exists()
    assert (alive / "apply.tfplan").exists()
