"""Texts of a spec that have a form; cases/texts-of-no-form.yaml shows what is said of those that have another."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gpuctl.spec import forms

DIGEST = "sha256:" + "0a" * 32
GOOD: list[tuple[Any, list[str]]] = [
    (
        forms.ContainerImage,
        [
            "busybox", "nvcr.io/nvidia/pytorch:25.10-py3", f"registry.example:5000/team/app@{DIGEST}",
            f"ghcr.io/a__b/c-d.e:V1.0_x@{DIGEST}", "localhost:5000/x", "quay.io/jupyter/scipy-notebook:2025-10-20",
        ],
    ),
    (forms.GitBranch, ["main", "feature/x-1.2", "release_1", "v2"]),
    (
        forms.AptSource,
        [
            "deb https://mirror.example/ubuntu noble main universe", "deb [trusted=yes] http://192.0.2.1:8080/apt ./",
            "deb [signed-by=/usr/share/keyrings/x.gpg arch=amd64] http://deb.example/debian bookworm main",
            "deb file:/srv/repo ./",
        ],
    ),
    (forms.Releases, ["http://192.0.2.1:8080/k3s", "https://mirror.example", "file:///srv/k3s"]),
    (forms.WebAddress, ["http://192.0.2.1:5000", "https://images.example/a/b.img?x=1"]),
    (forms.GitServer, ["https://git.example:3000/", "ssh://git@git.example:22", "git@git.example:clusters"]),
    (forms.AbsolutePath, ["/", "/srv/export", "/mnt/nvme0/", "/a/..b/.hidden"]),
    (forms.HostOrAddress, ["10.0.0.3", "0.pool.ntp.org", "3com", "ntp", "API.Example", "dc_01.corp"]),
    (forms.Hostname, ["hub.example", "hub"]),
    (forms.UserName, ["alice", "alice@example.com", "Ann Lee", "ü"]),
    (forms.DriverVersion, ["580.95.05", "550.127.08"]),
    (forms.MountPoint, ["/", "/mnt/nvme-0/", "/a/..b/.hidden"]),
    (forms.LinuxUser, ["gpuctl", "ops_1"]),
    (forms.Email, ["ops+gpu@firm.example"]),
    (forms.StorageId, ["local-lvm", "nvme", "ceph_pool.1"]),
    (forms.Bridge, ["vmbr0", "vmbr0.12", "vnet_a"]),
]  # fmt: skip
BAD: list[tuple[Any, list[str]]] = [
    (forms.ContainerImage, ["", "Upper", "a b", "x:", "x@sha256:12", "/x", "x//y", "http://quay.io/x", "x:-1", "x\n"]),
    (forms.GitBranch, ["", "-x", "a..b", "a b", "x/", "/x", ".x", "a/.b", "x@{1}", "a:b", "x\n"]),
    (forms.AptSource, ["", "hello", "deb https://mirror.example", "deb https://mirror.example noble\nevil", "deb x y"]),
    (forms.Releases, ["ftp://mirror", "mirror.example", "https://", "https://x/ y", "file:///"]),
    (forms.AbsolutePath, ["", "x", "/a b", "/a/../b", "/a/.", "//a", "/a\n"]),
    (forms.HostOrAddress, ["", "10.0.0.256", "10.0.0", "a..b", "a b", "-x", "x-", f"{'a' * 64}.example"]),
    (forms.Hostname, ["Hub.example", "hub.example.", "10.0.0.101", "10.0.0", "https://hub.example"]),
    (forms.UserName, ["", " a", "a/b", "a\nb"]),
    (forms.DriverVersion, ["newest", "v580", "580", "580.95", "580.95.05.1"]),
    (forms.MountPoint, ["x", "/a b", "/a@b", "/ä", "/a/../b"]),
    (forms.LinuxUser, ["", "Ann", "root", "www-data"]),
    (forms.Email, ["nobody", "a@b", "a b@c.d"]),
    (forms.StorageId, ["a", "9x", "local lvm"]),
    (forms.Bridge, ["", "0x", "a-bridge-too-long"]),
]
SHAPES = {"accepts": GOOD, "refuses": BAD}


@pytest.mark.parametrize(
    ("verdict", "form", "text"),
    [(verdict, form, text) for verdict, cases in SHAPES.items() for form, texts in cases for text in texts],
)
def test_a_form(verdict: str, form: Any, text: str) -> None:
    if verdict == "accepts":
        assert TypeAdapter(form).validate_python(text) == text
    else:
        with pytest.raises(ValidationError, match="write it like"):
            TypeAdapter(form).validate_python(text)


@pytest.mark.parametrize("form", [form for form in vars(forms).values() if hasattr(form, "__metadata__")])
def test_the_example_of_a_form_has_it(form: Any) -> None:
    for one in form.__metadata__:
        if isinstance(one, forms.Form):
            assert TypeAdapter(form).validate_python(one.example) == one.example
