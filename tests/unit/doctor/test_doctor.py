"""gpuctl doctor from outside, against the emulated Proxmox API: what is right, what is not, and no change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
REPORTS = Path(__file__).parent / "unverified"
TOOLS = {
    "terraform": "Terraform v1.11.4\non linux_amd64",
    "helm": "v3.16.2+g13654a5",
    "ssh": "OpenSSH_9.2p1 Debian-2+deb12u5, OpenSSL 3.0.15",
    "git": "git version 2.39.5",
    "kubectl": "Client Version: v1.35.1",
}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that tell their version and do nothing else: the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, said in TOOLS.items():
        tool(folder, name, said)
    return folder


def tool(folder: Path, name: str, said: str, code: int = 0) -> None:
    (folder / name).write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{said}\nEND\nexit {code}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.fixture
def spec(tmp_path: Path, pve: Any) -> Path:
    """The example, on the emulated server with its two cards."""
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("https://pve.example:8006", pve.endpoint),
        ("file:./pve-ca.pem", f"file:{pve.ca}"),
        ("env:PROXMOX_VE_API_TOKEN", f"file:{pve.token}"),
        ("gpus: 8", "gpus: 2"),
        ("count: 4\n      addresses: 10.0.0.21-10.0.0.24", "count: 1\n      addresses: 10.0.0.21"),
    ):
        assert old in text
        text = text.replace(old, new)
    folder = tmp_path / "site"
    folder.mkdir()
    file = folder / "cluster.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def gpuctl(*arguments: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GPUCTL_", "PROXMOX_", "SSH_"))}
    return subprocess.run(
        [sys.executable, "-m", "gpuctl", "doctor", *arguments],
        cwd=cwd,
        env={**kept, "PATH": str(path), "HOME": str(cwd)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """The lines by ``group name``."""
    body = json.loads(done.stdout)
    assert body["schemaVersion"] == 1
    assert sum(body["summary"].values()) == len(body["lines"])
    assert all(line["hint"] for line in body["lines"] if line["outcome"] in ("warn", "fail"))
    return {f"{line['group']} {line['name']}": line for line in body["lines"]}


def wrong(found: dict[str, dict[str, str]]) -> set[str]:
    return {name for name, line in found.items() if line["outcome"] == "fail"}


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_server_as_it_should_be_and_nothing_is_changed(spec: Path, tools: Path, pve: Any) -> None:
    before = files(spec.parent)
    done = gpuctl("-o", "json", "--host-report", str(REPORTS / "good.report"), cwd=spec.parent, path=tools)
    found = lines(done)
    assert wrong(found) == set()
    assert done.returncode == 0
    assert {name for name, line in found.items() if line["outcome"] != "ok"} == {"machine spec"}  # the placeholder
    assert {name.partition(" ")[0] for name in found} == {
        *("tools", "machine", "secrets", "api", "server", "cards", "host"),
    }
    assert found["cards present"]["measured"] == "2 x a100-pcie-80gb"
    assert files(spec.parent) == before
    assert {method for method, _path, _body in pve.api.requests} == {"GET"}
    assert pve.token.read_text(encoding="utf-8").partition("=")[2].strip() not in done.stdout + done.stderr


def privileges(pve: Any, _spec: Path) -> None:
    pve.api._fault_privileges(["VM.Audit", "Sys.Audit", "Datastore.Audit", "Mapping.Audit"])


def no_token(pve: Any, _spec: Path) -> None:
    pve.token.unlink()


def other_token(pve: Any, _spec: Path) -> None:
    pve.api.apitokens.clear()


def offline(pve: Any, _spec: Path) -> None:
    pve.api.set_node_offline("pve", True)


def other_ca(pve: Any, spec: Path) -> None:
    spec.write_text(spec.read_text(encoding="utf-8").replace(f"    ca: file:{pve.ca}\n", ""), encoding="utf-8")


def bridge(pve: Any, _spec: Path) -> None:
    pve.api.networks = ({"iface": "vmbr7", "type": "bridge"},)


def full(pve: Any, _spec: Path) -> None:
    pve.api._fault_free("nvme", 1 << 30)


def content(pve: Any, _spec: Path) -> None:
    pve.api.storages["local"]["content"] = "iso"


def foreign(pve: Any, _spec: Path) -> None:
    pve.api._fault_foreign(9021)


def lost(pve: Any, _spec: Path) -> None:
    pve.api._fault_remove_card(pve.api.cards[0]["id"])


def other_model(pve: Any, _spec: Path) -> None:
    pve.api.cards[1]["device"] = "0x20f1"


def no_iommu(pve: Any, _spec: Path) -> None:
    for card in pve.api.cards:
        card["iommugroup"] = -1


def shared(pve: Any, _spec: Path) -> None:
    pve.api.cards[-1]["iommugroup"] = pve.api.cards[0]["iommugroup"]


def held(pve: Any, _spec: Path) -> None:
    pve.api._fault_foreign(100)
    pve.api.vms[-1].config["hostpci0"] = pve.api.cards[0]["id"]


def memory(pve: Any, _spec: Path) -> None:
    object.__setattr__(pve.api.inventory, "memory", 64 << 30)


def broken_spec(_pve: Any, spec: Path) -> None:
    spec.write_text(spec.read_text(encoding="utf-8").replace("gateway: 10.0.0.1", "gateway: 10.9.9.9"), "utf-8")


@pytest.mark.parametrize(
    ("damage", "fails", "says"),
    [
        (privileges, "api privileges", "VM.Allocate"),
        (no_token, "api answers", "cannot be read"),
        (other_token, "api answers", "refuses the token"),
        (offline, "api node", "pve is offline"),
        (other_ca, "api certificate", "self-signed certificate"),
        (bridge, "server bridge", "it has vmbr7"),
        (full, "server storages", "nvme has 1 GiB free"),
        (content, "server storages", "does not take 'import'"),
        (memory, "server memory", "of 64 GiB"),
        (foreign, "server vm ids", "VM 9021 (somebodys) has the id of wk-gpu1"),
        (lost, "cards present", "2 x a100-pcie-80gb wanted; the node has 1 x"),
        (other_model, "cards present", "1 x a100-pcie-40gb"),
        (no_iommu, "cards iommu groups", "IOMMU is off"),
        (shared, "cards iommu groups", "0000:17:00.0 shares its group with 0000:01:00.0"),
        (held, "cards free", "too few free NVIDIA cards"),
        (broken_spec, "machine spec", "1 error"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_damage_is_named(
    spec: Path, tools: Path, pve: Any, damage: Callable[[Any, Path], None], fails: str, says: str
) -> None:
    damage(pve, spec)
    done = gpuctl("-o", "json", cwd=spec.parent, path=tools)
    assert done.returncode == 6, done.stdout + done.stderr
    found = lines(done)
    assert fails in wrong(found), found
    assert says in found[fails]["measured"]
    assert "Traceback" not in done.stderr


def test_what_the_api_does_not_tell_has_no_tick(spec: Path, tools: Path, pve: Any) -> None:
    other_token(pve, spec)
    found = lines(gpuctl("-o", "json", cwd=spec.parent, path=tools))
    ticks = {name for name, line in found.items() if line["outcome"] == "ok" and name.split()[0] in ("server", "cards")}
    assert ticks == set()
    assert found["api certificate"]["outcome"] == "ok"


def test_the_clock_is_held_against_the_servers(spec: Path, tools: Path, pve: Any) -> None:
    found = lines(gpuctl("-o", "json", cwd=spec.parent, path=tools))
    assert found["machine clock"]["outcome"] == "ok"
    assert " s off ours" in found["machine clock"]["measured"]


def test_without_a_spec_only_this_machine_is_looked_at(tmp_path: Path, tools: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    done = gpuctl(cwd=folder, path=tools)
    assert done.returncode == 0, done.stdout
    assert "  ok    terraform" in done.stdout
    assert "Next: gpuctl init" in done.stdout
    assert "hint: gpuctl doctor --host-ssh root@HOST" in done.stdout
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said", "outcome"),
    [
        ("terraform", "Terraform v1.5.7\non linux_amd64", "fail"),
        ("terraform", "Terraform v1.6.0", "ok"),
        ("helm", "v3.9.4+gdbc6d8e", "fail"),
        ("helm", "v4.0.0+g1", "ok"),
        ("helm", "nonsense", "warn"),
    ],
)
def test_versions_are_compared_as_numbers(tmp_path: Path, tools: Path, name: str, said: str, outcome: str) -> None:
    tool(tools, name, said)
    assert lines(gpuctl("-o", "json", cwd=tmp_path, path=tools))[f"tools {name}"]["outcome"] == outcome


def test_a_missing_tool_fails_and_opentofu_will_do(tmp_path: Path, tools: Path) -> None:
    (tools / "terraform").unlink()
    done = gpuctl(cwd=tmp_path, path=tools)
    assert done.returncode == 6
    assert "  FAIL  terraform" in done.stdout
    assert "hint: install Terraform 1.6 or later, or OpenTofu" in done.stdout
    tool(tools, "tofu", "OpenTofu v1.8.3")
    assert "1.8.3 at" in lines(gpuctl("-o", "json", cwd=tmp_path, path=tools))["tools terraform"]["measured"]


def test_the_host_is_asked_once_over_the_operators_own_ssh(tmp_path: Path, tools: Path) -> None:
    report = (REPORTS / "shared-group.report").read_text(encoding="utf-8")
    (tools / "ssh").write_text(
        # its version is asked at the same time
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n[ "$1" = -V ] && exit\n'
        f"/bin/cat > {tmp_path}/script\n/bin/cat <<'END'\n{report}END\n",
        encoding="utf-8",
    )
    found = lines(gpuctl("-o", "json", "--host-ssh", "root@pve", cwd=tmp_path, path=tools))
    assert wrong(found) == {"host iommu groups"}
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    (once,) = [line for line in asked if line != "-V"]
    assert "BatchMode=yes" in once
    assert once.endswith("-- root@pve sh -s")
    printed = gpuctl("--host-script", cwd=tmp_path, path=tools).stdout
    assert (tmp_path / "script").read_text(encoding="utf-8") == printed


def test_a_host_that_lets_nobody_in_is_a_failure_with_its_cause(tmp_path: Path, tools: Path) -> None:
    tool(tools, "ssh", "", 255)
    found = lines(gpuctl("-o", "json", "--host-ssh", "root@pve", cwd=tmp_path, path=tools))
    assert wrong(found) == {"host report"}
    assert "cannot be reached by ssh" in found["host report"]["measured"]
    assert found["host bar1"]["outcome"] == "not looked at"


def test_files_that_others_may_read_are_named(spec: Path, tools: Path) -> None:
    secrets = spec.parent / ".gpuctl/homelab@127.0.0.1/secrets"
    secrets.mkdir(parents=True)
    (secrets / "token").write_text("x", encoding="utf-8")
    (secrets / "token").chmod(0o644)
    found = lines(gpuctl("-o", "json", cwd=spec.parent, path=tools))
    assert found["machine file modes"]["outcome"] == "fail"
    assert "secrets/token has mode 0644" in found["machine file modes"]["measured"]


@pytest.mark.parametrize(
    "arguments",
    [("nowhere.yaml",), ("--site", "nowhere.yaml"), ("-o", "xml"), ("--host-ssh", "a", "--host-report", "b")],
)
def test_wrong_use_is_exit_code_2(tmp_path: Path, tools: Path, arguments: tuple[str, ...]) -> None:
    done = gpuctl(*arguments, cwd=tmp_path, path=tools)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
