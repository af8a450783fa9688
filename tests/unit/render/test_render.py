"""Rendering is pure: the example gives exactly the golden bytes. Renew them with `gpuctl render --out FOLDER`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.render import certificates, gpu, ingress, jupyterhub, rancher, rendered, storage
from gpuctl.spec import fit
from gpuctl.spec.load import load
from gpuctl.spec.resolved import Resolved

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"


def _files(spec: Path) -> dict[str, str]:
    resolved = load(spec).resolved
    assert resolved
    return rendered(resolved)


SPECS = [
    ROOT / "examples/homelab.yaml",
    *(GOLDEN.parent / f"{name}.yaml" for name in ("shared", "notebooks", "managed")),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_a_spec_renders_to_its_golden_files(spec: Path) -> None:
    golden = GOLDEN / spec.stem
    files = _files(spec)
    assert set(files) == {str(path.relative_to(golden)) for path in golden.rglob("*") if path.is_file()}
    for name, text in files.items():
        assert text == (golden / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("cpus: 16", "cpus: 8", "terraform/gpuctl.auto.tfvars.json"),
        ("v1.35.4+k3s1", "v1.35.5+k3s1", "ansible/inventory.json"),
        ("api_vip: 10.0.0.100", "api_vip: 10.0.0.99", "ansible/inventory.json"),
    ],
)
def test_a_change_of_the_spec_reaches_the_file_it_belongs_to_and_no_other(
    tmp_path: Path, old: str, new: str, where: str
) -> None:
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    changed = tmp_path / "cluster.yaml"
    changed.write_text(text.replace(old, new), encoding="utf-8")
    before, after = _files(ROOT / "examples/homelab.yaml"), _files(changed)
    assert [name for name in before if before[name] != after[name]] == [where]


def test_a_registry_of_the_site_is_every_host_s_first_source_of_images(tmp_path: Path) -> None:
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    changed = tmp_path / "cluster.yaml"
    changed.write_text(
        text.replace("  host: {", "  mirrors: {registry: http://registry.example:5000/}\n  host: {", 1),
        encoding="utf-8",
    )
    inventory = json.loads(_files(changed)["ansible/inventory.json"])
    hosts = {**inventory["servers"]["hosts"], **inventory["agents"]["hosts"]}
    wanted = "mirrors:\n  '*':\n    endpoint:\n    - http://registry.example:5000\n"
    assert {host["gpuctl_k3s"]["registries"] for host in hosts.values()} == {wanted}


def test_tokens_are_placeholders_that_only_the_play_fills() -> None:
    inventory = _files(ROOT / "examples/homelab.yaml")["ansible/inventory.json"]
    tokens = set(re.findall(r"token: (\S+?)\\\\n", inventory.replace("\\n", "\\\\n")))
    assert tokens
    assert all("@" in token for token in tokens), tokens


def test_every_server_speaks_vrrp_to_the_others_only() -> None:
    inventory = json.loads(_files(ROOT / "examples/homelab.yaml")["ansible/inventory.json"])
    servers = inventory["servers"]["hosts"]
    for number, name in enumerate(("cp1", "cp2", "cp3"), start=11):
        text = json.dumps(servers[name])
        peers = {f"10.0.0.{other}" for other in (11, 12, 13)} - {f"10.0.0.{number}"}
        listed = re.search(r"unicast_peer {(.*?)}", text)
        assert listed
        assert set(re.findall(r"10\.0\.0\.\d+", listed[1])) == peers


def test_what_the_nodes_offer_follows_from_how_their_cards_are_shared() -> None:
    resolved = load(GOLDEN.parent / "shared.yaml").resolved
    assert resolved
    offered = {node.name: gpu.offered(resolved, node) for node in resolved.nodes}
    assert offered == {
        "cp1": {},
        "cp2": {},
        "cp3": {},
        "whole1": {"nvidia.com/gpu": 2},
        "sliced1": {"nvidia.com/gpu": 6},
        "cut1": {"nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-2g.10gb": 1, "nvidia.com/mig-3g.20gb": 1},
    }
    labels = {node.name: gpu.node_labels(node) for node in resolved.agents}
    assert labels == {
        "whole1": {},
        "sliced1": {"nvidia.com/device-plugin.config": "time-slicing-3"},
        "cut1": {"nvidia.com/mig.config": "all-balanced"},
    }
    left = gpu.label_changes(
        resolved.node("whole1"),
        {"nvidia.com/device-plugin.config": "time-slicing-3", "nvidia.com/mig.config": "all-1g.5gb"},
    )
    assert left == {"nvidia.com/device-plugin.config": None, "nvidia.com/mig.config": "all-disabled"}


def notebooks(tmp_path: Path, *changes: tuple[str, str]) -> Resolved:
    """The spec with notebooks in full, changed."""
    text = (GOLDEN.parent / "notebooks.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    resolved = load(tmp_path / "cluster.yaml").resolved
    assert resolved
    assert resolved.jupyterhub
    return resolved


def test_each_profile_runs_only_where_its_resource_means_what_it_says(tmp_path: Path) -> None:
    spec = notebooks(tmp_path)
    assert spec.jupyterhub
    found = {p.name: [n.name for n in fit.runners(spec, spec.jupyterhub, p)] for p in spec.jupyterhub.profiles}
    assert found == {
        "cpu": ["plain1", "plain2", "whole1", "whole2", "sliced1", "cut1"],
        "one": ["whole1", "whole2", "sliced1"],
        "four": ["whole1", "whole2"],
        "slice": ["cut1"],
    }
    balanced = notebooks(tmp_path, ("mig: all-1g.10gb", "mig: all-balanced"), ("1g.10gb: 1", "2g.20gb: 2"))
    assert balanced.jupyterhub
    profile = balanced.jupyterhub.profiles[-1]
    assert fit.request(balanced, profile) == {"nvidia.com/mig-2g.20gb": 2}
    assert [node.name for node in fit.runners(balanced, balanced.jupyterhub, profile)] == ["cut1"]


def test_profiles_that_nobody_wrote_are_what_the_cards_allow(tmp_path: Path) -> None:
    text = (GOLDEN.parent / "notebooks.yaml").read_text(encoding="utf-8")
    start, end = text.index("  profiles:"), text.index("  home:")
    (tmp_path / "cluster.yaml").write_text(text[:start] + text[end:], encoding="utf-8")
    spec = load(tmp_path / "cluster.yaml").resolved
    assert spec
    assert spec.jupyterhub
    assert [p.name for p in spec.jupyterhub.profiles] == ["cpu", "gpu-1", "gpu-2", "gpu-4", "mig-1g-10gb"]
    assert all(fit.runners(spec, spec.jupyterhub, profile) for profile in spec.jupyterhub.profiles)


def test_no_secret_is_among_the_hubs_values_and_each_has_its_place_in_the_secret(tmp_path: Path) -> None:
    spec = notebooks(tmp_path)
    assert spec.jupyterhub
    keys = jupyterhub.secret_keys(spec.jupyterhub)
    assert {place: str(ref) for place, ref in keys.given.items()} == {
        ("LDAPAuthenticator", "lookup_dn_search_password"): "env:LDAP_PASSWORD"
    }
    release = jupyterhub.release(spec)
    assert release
    assert "password" not in release.values_yaml().lower()


def managed(tmp_path: Path, *changes: tuple[str, str]) -> Resolved:
    """The spec with management in full, changed."""
    text = (GOLDEN.parent / "managed.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    resolved = load(tmp_path / "cluster.yaml").resolved
    assert resolved
    return resolved


def test_rancher_gets_the_annotations_that_its_controller_reads(tmp_path: Path) -> None:
    behind_traefik, behind_nginx = (
        managed(tmp_path),
        managed(tmp_path, ("v1.33.6+k3s1", "v1.33.6+k3s1, ingress: nginx")),
    )
    assert annotations(behind_traefik) == {"cert-manager.io/cluster-issuer": "gpuctl"}
    assert annotations(behind_nginx) == {
        "cert-manager.io/cluster-issuer": "gpuctl",
        "nginx.org/client-max-body-size": "0",
        "nginx.org/proxy-connect-timeout": "30s",
        "nginx.org/proxy-read-timeout": "1800s",
        "nginx.org/proxy-send-timeout": "1800s",
        "nginx.org/websocket-services": "rancher",
    }
    assert ingress.traefik(behind_nginx) is None
    assert ingress.release(behind_traefik) is None


def annotations(spec: Resolved) -> dict[str, str]:
    release = rancher.release(spec)
    assert release
    return dict(release.values["ingress"]["extraAnnotations"])


def test_what_the_cluster_needs_runs_on_the_servers_only_where_everything_is_tainted(tmp_path: Path) -> None:
    release = storage.local(managed(tmp_path))
    assert release.values["tolerations"] == []
    pools = [f"memory: 64GiB{rest}" for rest in ("}\n    - {name: fast", ", scratch: 200GiB}")]
    spec = managed(tmp_path, *((pool, pool.replace("64GiB", '64GiB, taints: ["team=a:NoSchedule"]')) for pool in pools))
    assert storage.local(spec).values["tolerations"] == [
        {"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
    ]


def test_a_scratch_class_without_a_disk_is_no_class(tmp_path: Path) -> None:
    spec = managed(tmp_path, (", scratch: 200GiB}", "}"))
    assert [one["name"] for one in storage.classes(spec).values["classes"]] == ["nfs-client", "ssd"]
    assert [one["name"] for one in storage.local(spec).values["classes"]] == ["ssd"]


def test_letsencrypt_asks_through_the_ingress_and_no_machine_needs_a_ca(tmp_path: Path) -> None:
    spec = managed(
        tmp_path,
        ("    issuer: ca\n    ca: {certificate: file:./ca.pem, key: env:CA_KEY}\n",
         "    issuer: letsencrypt\n    email: ops@example.org\n"),
    )  # fmt: skip
    issuers, release = certificates.issuers(spec), rancher.release(spec)
    assert issuers
    assert release
    assert issuers.values["acme"] == {
        "server": "https://acme-v02.api.letsencrypt.org/directory",
        "email": "ops@example.org",
        "secret": "gpuctl-letsencrypt",
        "ingressClassName": "traefik",
    }
    assert release.values["privateCA"] is False
    assert certificates.on_ingress(spec) == {"cert-manager.io/cluster-issuer": "gpuctl"}
    f5 = replace(spec, kubernetes=replace(spec.kubernetes, ingress="nginx"))
    assert certificates.on_ingress(f5)["acme.cert-manager.io/http01-edit-in-place"] == "true"
