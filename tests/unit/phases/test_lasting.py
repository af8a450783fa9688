"""What lasts as long as a cluster is seen on its servers, and a spec that says otherwise is refused by name."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl.phases.bootstrap import lasting, observe
from gpuctl.render import hosts
from gpuctl.render.hosts import Observed
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.load import load

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
assert SPEC
SETTINGS = {
    "cluster-cidr": "10.42.0.0/16",
    "service-cidr": "10.43.0.0/16",
    "cluster-domain": "cluster.local",
    "flannel-backend": "vxlan",
}
SEEN = {"cp1": Observed("eth0", "", data=True, member=True, version="v1.35.4+k3s1", settings=SETTINGS)}


def test_a_server_s_own_configuration_is_what_is_seen_of_it(tmp_path: Path) -> None:
    assert SPEC
    ip = tmp_path / "bin/ip"
    ip.parent.mkdir()
    link = '[{"ifname": "eth0", "address": "aa:bb", "addr_info": [{"local": "10.0.0.11"}]}]'
    ip.write_text(f"#!/bin/sh\necho '{link}'\n", encoding="utf-8")
    ip.chmod(0o755)
    config = hosts.config(SPEC, SPEC.servers[0], "eth0", founding=True)
    written = hosts.k3s(SPEC, SPEC.servers[0], "eth0", founding=True)["config"]
    for path, text in (("etc/rancher/k3s/config.yaml", written), ("etc/rancher/node/password", "x")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (tmp_path / "var/lib/rancher/k3s/server/db/etcd").mkdir(parents=True)
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/k3s").symlink_to("/usr/local/lib/gpuctl/k3s/v1.35.4+k3s1/k3s")
    script = observe._script(SPEC.servers[0])
    for folder in ("/etc/rancher", "/var/lib/rancher", "/usr/local/bin"):
        script = script.replace(f'"{folder}', f'"{tmp_path}{folder}')
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=30)
    seen = Observed(**json.loads(done.stdout))
    assert seen.settings == {key: config[key] for key in SETTINGS}
    assert (seen.version, seen.founder, seen.member) == ("v1.35.4+k3s1", True, True)
    lasting.refuse(SPEC, {"cp1": seen})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pod_cidr", "10.44.0.0/16"),
        ("service_cidr", "10.44.0.0/16"),
        ("cluster_domain", "other.local"),
        ("flannel_backend", "host-gw"),
    ],
)
def test_what_lasts_is_refused_with_the_way_back(field: str, value: str) -> None:
    assert SPEC
    change: dict[str, Any] = {field: value}
    spec = replace(SPEC, kubernetes=replace(SPEC.kubernetes, **change))
    with pytest.raises(GpuctlError, match=rf"kubernetes\.{field} of a living cluster cannot be changed") as caught:
        lasting.refuse(spec, SEEN)
    assert caught.value.next.startswith("set it back to ")
    lasting.refuse(spec, {"cp1": Observed("eth0", "")})


@pytest.mark.parametrize(
    ("version", "way_out"),
    [
        ("v1.35.3+k3s1", ""),
        ("v1.35.9+k3s1", ""),
        ("v1.36.0+k3s1", ""),
        ("v1.34.9+k3s1", "name a release of v1.35 in"),
        ("v1.37.0+k3s1", "name a release of v1.36 in"),
    ],
)
def test_a_version_goes_one_minor_up_at_a_time(version: str, way_out: str) -> None:
    assert SPEC
    spec = replace(SPEC, kubernetes=replace(SPEC.kubernetes, version=version))
    if not way_out:
        lasting.refuse(spec, SEEN)
        return
    with pytest.raises(GpuctlError, match=r"kubernetes\.version cannot go from v1\.35\.4") as caught:
        lasting.refuse(spec, SEEN)
    assert caught.value.next.startswith(way_out)
