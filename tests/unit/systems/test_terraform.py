"""Runs of one workspace at the same time: the plan a run has shown is the plan it applies."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import ClassVar

import pytest

from gpuctl.context import Context
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import Workspace
from gpuctl.spec.load import load
from gpuctl.spec.resolved import SecretRef
from gpuctl.systems import terraform
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


PASSWORD = 'a ${b} %{c} "d" \\e'


class States(BaseHTTPRequestHandler):
    """A server for Terraform's http backend that knows one user."""

    kept: ClassVar[dict[str, bytes]] = {}

    def _answer(self, code: int, body: bytes = b"") -> None:
        allowed = base64.b64encode(f"gpuctl:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {allowed}":
            code, body = 401, b""
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        state = self.kept.get(self.path)
        self._answer(200 if state else 404, state or b"")

    def do_POST(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to say."""


@pytest.fixture
def states() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), States)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/homelab"
    server.shutdown()


@pytest.mark.skipif(not shutil.which("terraform"), reason="no terraform here")
def test_the_state_lies_on_the_remote_backend_and_its_password_in_neither_configuration_nor_log(
    tmp_path: Path, states: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SPEC
    # a configuration that needs no provider, which could not be fetched here
    main = tmp_path / "templates/terraform/main.tf"
    main.parent.mkdir(parents=True)
    main.write_text('variable "number" {}\noutput "number" { value = var.number }\n', encoding="utf-8")
    monkeypatch.setattr(terraform, "data_folder", lambda _: tmp_path / "templates")
    monkeypatch.setenv("STATE_PASSWORD", PASSWORD)
    secret = SecretRef("env", "STATE_PASSWORD")
    settings = (("address", states), ("password", secret), ("type", "http"), ("username", "gpuctl"))
    spec = replace(SPEC, site=replace(SPEC.site, backend=settings))
    workspace = Workspace.of(tmp_path / "cluster.yaml", spec.name, spec.endpoint_name)
    workspace.create()
    said: list[str] = []
    redactor = Redactor()
    ctx = Context(spec, workspace, lambda event: said.append(redactor.clean(event.message)), redactor, Flag())
    made = Terraform(spec.site, workspace, "TOKEN", ctx)
    assert made.has_state
    made.prepare({"number": 7})
    saved, _ = made.plan()
    made.apply(saved, parallelism=1, on_event=lambda _: None)
    assert json.loads(States.kept["/homelab"])["outputs"]["number"]["value"] == 7
    written = (workspace.terraform / "backend.tf.json").read_text(encoding="utf-8")
    assert json.loads(written) == {"terraform": {"backend": {"http": {"address": states, "username": "gpuctl"}}}}
    assert not (workspace.terraform / "terraform.tfstate").exists()
    assert PASSWORD not in "".join(said)
    monkeypatch.setenv("STATE_PASSWORD", "another one")
    with pytest.raises(terraform.GpuctlError) as caught:
        run(ctx, 8)
    assert "another one" not in redactor.clean(str(caught.value.lines()))
