"""Every document of -o json is what its schema says, field for field, and has a section in docs/json.md."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from typer.main import get_command

from gpuctl.cli import app
from gpuctl.cli.options import print_document
from gpuctl.phases.base import Change, Plan
from gpuctl.report import changes, events, schemas
from gpuctl.report import plan as plan_report
from gpuctl.report.status import NodeStatus, Status, as_json
from gpuctl.run.events import Event, Kind
from gpuctl.run.workspace import Workspace
from gpuctl.spec.resolved import SpecPath
from tests.unit.report.test_html import whole_report

ROOT = Path(__file__).parents[3]
# print JSON whatever is asked, or no document at all
WITHOUT = {"schema", "man"}


def closed(schema: Any) -> Any:
    """The schema without its tolerance for fields to come: what is printed but not described is an error."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in schema else inner


def check(name: str, document: object, *, strict: bool = True) -> None:
    schema = schemas.schema(name)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(closed(schema) if strict else schema)
    assert [error.message for error in validator.iter_errors(document)] == []


def gpuctl(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpuctl", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "examples/homelab.yaml", tmp_path / "cluster.yaml")
    return tmp_path


@pytest.mark.parametrize("command", ["validate", "fmt", "render", "version"])
def test_what_is_printed_offline(folder: Path, command: str) -> None:
    done = gpuctl(command, "-o", "json", cwd=folder)
    assert (done.stderr, done.returncode) == ("", 0)
    check(command, json.loads(done.stdout))


@pytest.mark.parametrize("what", [(), ("nodes",), ("network.api_vip",), ("NET-01",), ("SPEC-04",)])
def test_an_explanation(tmp_path: Path, what: tuple[str, ...]) -> None:
    document = json.loads(gpuctl("explain", *what, "-o", "json", cwd=tmp_path).stdout)
    schema = schemas.schema("explain")
    assert [Draft202012Validator(closed(one)).is_valid(document) for one in schema["anyOf"]].count(True) == 1


def test_a_difference(folder: Path) -> None:
    text = (folder / "cluster.yaml").read_text(encoding="utf-8")
    pool = "\n    - {name: more, count: 1, addresses: 10.0.0.99, cpus: 4, memory: 8GiB, disk: 20GiB}"
    (folder / "new.yaml").write_text(text.replace("\n  pools:", f"\n  pools:{pool}", 1), encoding="utf-8")
    document = json.loads(gpuctl("diff", "cluster.yaml", "new.yaml", "-o", "json", cwd=folder).stdout)
    check("diff", document)
    assert document["differences"]


def test_a_diagnosis_without_a_server(folder: Path) -> None:
    done = gpuctl("doctor", "-o", "json", cwd=folder, PROXMOX_VE_API_TOKEN="")
    document = json.loads(done.stdout)
    check("doctor", document)
    assert sum(document["summary"].values()) == len(document["lines"])


def test_the_first_spec(tmp_path: Path) -> None:
    answers = "--name mine --endpoint https://pve.example:8006 --node pve --cidr 10.0.0.0/24 --gateway 10.0.0.1"
    nodes = "--api-vip 10.0.0.100 --first-address 10.0.0.11 --workers 1 --gpus-per-worker 0"
    done = gpuctl("init", *answers.split(), *nodes.split(), "-o", "json", cwd=tmp_path)
    document = json.loads(done.stdout)
    check("init", document)
    assert document["lines"] == len((tmp_path / "cluster.yaml").read_text(encoding="utf-8").splitlines())


def test_resolve_is_an_open_document_whose_pairs_are_mappings(folder: Path) -> None:
    done = gpuctl("resolve", cwd=folder, GPUCTL_OUTPUT="json")
    document = json.loads(done.stdout)
    check("resolve", document, strict=False)
    assert document["spec"]["nodes"][0]["labels"] == {}
    assert [node["name"] for node in document["spec"]["nodes"]][:3] == ["cp1", "cp2", "cp3"]


def test_findings_of_a_broken_spec(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/unit/spec/cases/vip-is-a-node.yaml", tmp_path / "cluster.yaml")
    found = json.loads(gpuctl("validate", "-o", "json", cwd=tmp_path).stdout)
    check("validate", found)
    failed = gpuctl("plan", "-o", "json", cwd=tmp_path)
    error = json.loads(failed.stderr)
    check("error", error)
    assert (failed.stdout, failed.returncode) == ("", 2)
    assert error["error"]["findings"] == found["findings"]


def test_an_error_is_a_document_too(folder: Path) -> None:
    done = gpuctl("kubeconfig", "-o", "json", cwd=folder)
    document = json.loads(done.stderr)
    check("error", document)
    assert document["error"]["exit"] == done.returncode == 1
    assert document["error"]["next"] == "gpuctl apply"
    denied = gpuctl("plan", "-o", "json", cwd=folder, PROXMOX_VE_API_TOKEN="")
    document = json.loads(denied.stderr)
    check("error", document)
    assert (document["error"]["exit"], denied.returncode, denied.stdout) == (4, 4, "")
    assert [note.split()[0] for note in document["error"]["notes"]] == ["log"]


def test_the_kubeconfig(folder: Path) -> None:
    workspace = Workspace.of(folder / "cluster.yaml", "homelab", "pve.example")
    workspace.create()
    workspace.kubeconfig.write_text("apiVersion: v1\n", encoding="utf-8")
    document = json.loads(gpuctl("kubeconfig", "--raw", "-o", "json", cwd=folder).stdout)
    check("kubeconfig", document)
    assert document["kubeconfig"] == "apiVersion: v1\n"
    assert gpuctl("kubeconfig", "--raw", cwd=folder).stdout == "apiVersion: v1\n"


CHANGE = Change("vm/cp1", "create", "4 cpus", (SpecPath("cluster.yaml", 1, 2, "nodes"),), disruption="none")
PLANS = [Plan("provision", (CHANGE,), notes=("a note",)), Plan("bootstrap", unknown="after provision")]


def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    print_document(plan_report.document("homelab", PLANS))
    check("plan", json.loads(capsys.readouterr().out))


def test_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    node = NodeStatus("cp1", "10.0.0.11", "running", "Ready")
    print_document(as_json(Status("homelab", "pve.example", ("GPUs",), (node,), ("Proxmox: silent",), "")))
    check("status", json.loads(capsys.readouterr().out))


def test_a_verify_report_and_what_watch_says_of_it() -> None:
    report = whole_report()
    check("verify", json.loads(json.dumps(report.to_json())))
    lines = changes.records(None, report)
    assert len(lines) == len(report.results)
    for line in lines:
        check("watch", json.loads(line))


@pytest.mark.parametrize("kind", [kind for kind in get_args(Kind) if kind != "log"])
def test_an_event(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    events.Ndjson(sys.stdout).see(Event(kind, "words", "provision", "vm/cp1", {"plan": plan_report.as_json(PLANS)[0]}))
    document = json.loads(capsys.readouterr().out)
    check("events", document)
    plan = closed(schemas.schema("plan")["properties"]["plans"]["items"])
    assert Draft202012Validator(plan).is_valid(document["data"]["plan"])


def test_every_command_takes_it_and_every_document_is_documented() -> None:
    commands = dict(get_command(app).commands)  # type: ignore[attr-defined]
    gitops = commands.pop("gitops")
    commands |= {f"gitops {name}": command for name, command in gitops.commands.items()}
    takes = {name for name, command in commands.items() if any("--output" in p.opts for p in command.params)}
    assert set(commands) - WITHOUT <= takes
    page = (ROOT / "docs/json.md").read_text(encoding="utf-8")
    assert [name for name in takes if f"`gpuctl {name}" not in page] == []
    assert [name for name in schemas.names() if f"`{name}`" not in page] == []
