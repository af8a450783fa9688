"""gpuctl init from outside: what it asks for, what it writes, what it takes from the server, what it refuses."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuctl.spec import propose
from gpuctl.spec.load import load

ROOT = Path(__file__).parents[3]
NETWORK = ("--cidr", "10.0.0.0/24", "--gateway", "10.0.0.1", "--api-vip", "10.0.0.100", "--first-address", "10.0.0.11")
ALL = (
    *("--name", "mine", "--endpoint", "https://pve.example:8006", "--node", "pve", *NETWORK),
    *("--workers", "4", "--gpus-per-worker", "2", "--gpu-model", "a100-pcie-80gb"),
)


def gpuctl(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GPUCTL_", "PROXMOX_"))}
    return subprocess.run(
        [sys.executable, "-m", "gpuctl", *arguments],
        cwd=cwd,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_a_terminal_everything_missing_is_named_at_once(tmp_path: Path) -> None:
    done = gpuctl("init", "--name", "mine", cwd=tmp_path)
    assert done.returncode == 2
    for option in ("--endpoint", "--node", "--cidr", "--gateway", "--api-vip", "--first-address", "--workers"):
        assert option in done.stderr
    assert "--name:" not in done.stderr
    assert "--ingress-vip" not in done.stderr
    assert "--ingress-vip" in gpuctl("init", "--hub-host", "hub.example", cwd=tmp_path).stderr
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_valid_and_says_what_was_answered(tmp_path: Path) -> None:
    services = ("--nfs", "10.0.0.30:/export", "--rancher-host", "rancher.example", "--hub-host", "hub.example")
    done = gpuctl("init", *ALL, "--ingress-vip", "10.0.0.101", *services, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "cluster.yaml").read_text(encoding="utf-8").splitlines()
    assert done.stdout == f"wrote cluster.yaml ({len(lines)} lines). Next: gpuctl validate\n"
    assert lines[0].startswith("# yaml-language-server: $schema=")
    assert gpuctl("validate", cwd=tmp_path).returncode == 0
    spec = load(tmp_path / "cluster.yaml").resolved
    assert spec
    assert [str(node.address) for node in spec.nodes] == [f"10.0.0.{last}" for last in range(11, 18)]
    assert [node.gpus.count for node in spec.agents if node.gpus] == [2, 2, 2, 2]
    assert spec.rancher
    assert spec.jupyterhub
    assert spec.storage.nfs


def test_options_come_from_the_environment_too(tmp_path: Path) -> None:
    variables = {
        f"GPUCTL_{o.removeprefix('--').replace('-', '_').upper()}": v for o, v in zip(ALL[::2], ALL[1::2], strict=True)
    }
    done = gpuctl("init", "other.yaml", cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Next: gpuctl validate other.yaml\n")


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("mine", encoding="utf-8")
    done = gpuctl("init", *ALL, cwd=tmp_path)
    assert done.returncode == 2
    assert "cluster.yaml exists" in done.stderr
    assert file.read_text(encoding="utf-8") == "mine"
    assert gpuctl("init", *ALL, "--force", cwd=tmp_path).returncode == 0
    assert load(file).resolved


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--api-vip", "10.0.0.12", "NET-02"),
        ("--gateway", "10.9.9.9", "NET-01"),
        ("--name", "Not: a name", "name:"),
        ("--first-address", "ten", "--first-address 'ten' cannot be understood"),
        ("--cidr", "10.0.0.1/24", "10.0.0.1/24"),
        ("--gpu-model", "h100", "GPU-R4"),
        ("--control-planes", "2", "TOP-01"),
        ("--endpoint", "http://pve.example:8006", "SEC-R1"),
        ("--nfs", "10.0.0.30", "storage.nfs.path"),
    ],
)
def test_answers_that_make_no_valid_spec_are_refused(tmp_path: Path, option: str, value: str, says: str) -> None:
    done = gpuctl("init", *ALL, option, value, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    answers = ["asked", "https://127.0.0.1:9", "pve", "10.0.0.0/24", "10.0.0.1", "10.0.0.100", "10.0.0.11", "2", "0"]
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpuctl", "init"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith(("GPUCTL_", "PROXMOX_"))},
        stdin=secondary,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(primary, "".join(f"{answer}\n" for answer in answers).encode())
    said, _ = process.communicate(timeout=60)
    os.close(primary)
    os.close(secondary)
    assert process.returncode == 0, said
    spec = load(tmp_path / "cluster.yaml").resolved
    assert spec
    assert spec.name == "asked"
    assert [node.name for node in spec.agents] == ["wk1", "wk2"]


def test_it_proposes_what_the_server_has(tmp_path: Path, pve: Any) -> None:
    given = ("--name", "mine", "--endpoint", pve.endpoint, "--ca", f"file:{pve.ca}", "--token-ref", f"file:{pve.token}")
    own = ("--api-vip", "10.0.0.100", "--first-address", "10.0.0.11")
    done = gpuctl("init", "--from-proxmox", *given, *own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec = load(tmp_path / "cluster.yaml").resolved
    assert spec
    proxmox = spec.site.proxmox
    assert (proxmox.node, proxmox.storage.os, proxmox.storage.scratch, proxmox.storage.images) == (
        "pve",
        "local-lvm",
        "nvme",
        "local",
    )
    assert [node.gpus.model for node in spec.agents if node.gpus] == ["a100-pcie-80gb"] * 2
    assert spec.site.host.memory == 1 << 40
    assert str(spec.network.cidr) == "10.0.0.0/24"


def test_a_site_file_says_where_the_server_is(tmp_path: Path, pve: Any) -> None:
    site = tmp_path / "site.yaml"
    proxmox = f"{{endpoint: '{pve.endpoint}', ca: 'file:{pve.ca}', token: 'file:{pve.token}', node: pve}}"
    site.write_text(f"proxmox: {proxmox}\n", encoding="utf-8")
    own = ("--name", "mine", "--api-vip", "10.0.0.100", "--first-address", "10.0.0.11")
    done = gpuctl("init", "--from-proxmox", "--site", "site.yaml", *own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Next: gpuctl validate --site site.yaml\n")
    spec = load(tmp_path / "cluster.yaml").resolved
    assert spec
    assert spec.site.proxmox.endpoint == pve.endpoint


def test_a_file_that_is_no_site_file_is_named_with_its_findings(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("proxmox: {endpoint: https://pve:8006, tokn: env:X}\n", encoding="utf-8")
    done = gpuctl("init", "--site", "site.yaml", *ALL[:2], cwd=tmp_path)
    assert done.returncode == 2
    assert "site.yaml:1:39: error: site.proxmox.tokn: unknown key 'tokn'; did you mean token? [SPEC-04]" in done.stderr
    assert "site.proxmox.token: this key is missing" in done.stderr


def test_without_an_address_on_the_bridge_the_network_is_asked_for(tmp_path: Path, pve: Any) -> None:
    pve.api.networks = ({"iface": "vmbr0", "type": "bridge"},)
    given = ("--name", "mine", "--endpoint", pve.endpoint, "--ca", f"file:{pve.ca}", "--token-ref", f"file:{pve.token}")
    done = gpuctl("init", "--from-proxmox", *given, cwd=tmp_path)
    assert done.returncode == 2
    assert "next    add --cidr ... --gateway ... --api-vip ... --first-address ...\n" in done.stderr


def test_a_server_that_must_be_asked_and_does_not_answer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("gpuctl@pve!x=0123456789abcdef", encoding="utf-8")
    given = (*ALL, "--endpoint", "https://127.0.0.1:9", "--token-ref", "file:token")
    done = gpuctl("init", "--from-proxmox", *given, cwd=tmp_path)
    assert done.returncode == 1
    assert "the Proxmox API does not answer" in done.stderr
    assert not (tmp_path / "cluster.yaml").exists()
    assert gpuctl("init", *given, cwd=tmp_path).returncode == 0


def test_image_and_kubernetes_are_those_of_the_example() -> None:
    example = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    assert f"url: {propose.IMAGE}\n" in example
    assert f"version: {propose.KUBERNETES}," in example
