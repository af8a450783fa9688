"""The example from nothing to a verified cluster and back, in order."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from xml.etree import ElementTree

import yaml

from gpuctl.verify.checks import ALL
from tests.lab.conftest import Lab, outcomes

SERVERS, WORKERS = (9011, 9012, 9013), (9021, 9022, 9023, 9024)
# what gpuctl puts on a host, with times: the same bytes written again would show
HOST_FILES = (
    "find /etc /usr/local /root /home -xdev -type f -not -name resolv.conf "
    "-not -path '*/.ansible/*' -not -path '/root/.kube/*' "
    "-printf '%p %T@ %s\\n' | sort; systemctl show -p ActiveEnterTimestampMonotonic k3s k3s-agent keepalived nftables"
)
OBJECTS = (
    "k3s kubectl get deployments,daemonsets,services,configmaps,secrets,roles,rolebindings -A "
    "-o custom-columns=:.kind,:.metadata.namespace,:.metadata.name,:.metadata.resourceVersion"
    " | grep -v gpuctl-verify; k3s kubectl get nodes -o custom-columns=:.metadata.name,:.metadata.labels,:.spec"
)


def state(lab: Lab) -> dict[str, str]:
    """Everything that a second apply could change."""
    found = {f"host {vmid}": lab.inside(vmid, HOST_FILES) for vmid in (*SERVERS, *WORKERS)}
    found["objects"] = lab.inside(SERVERS[0], OBJECTS)
    terraform = json.loads((lab.workspace / "terraform/terraform.tfstate").read_text())
    found["terraform"] = str(terraform["serial"])
    found["proxmox"] = str(lab.mutations())
    return found


def test_plan_shows_everything_and_changes_nothing(homelab: Lab) -> None:
    done = homelab.gpuctl("plan", "--detailed-exitcode", code=3)
    for name in ("cp1", "cp2", "cp3", "wk-gpu1", "wk-gpu2", "wk-gpu3", "wk-gpu4"):
        assert f"vm/{name}" in done.stdout
    assert "bootstrap   ? after provision" in done.stdout
    assert homelab.mutations() == []


def test_without_a_terminal_and_without_consent_nothing_happens(homelab: Lab) -> None:
    done = homelab.gpuctl("apply", code=2)
    assert "--yes" in done.stderr
    assert homelab.mutations() == []


def test_apply_ends_in_a_verified_cluster(homelab: Lab) -> None:
    done = homelab.gpuctl("apply", "--yes", "--junit", str(homelab.folder / "junit.xml"))
    assert homelab.proven in done.stdout
    assert "simulated here: hypervisor" in done.stdout
    suite = ElementTree.parse(homelab.folder / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (str(len(ALL)), "0", "0")


def test_the_kubeconfig_is_private_and_merged_on_request(homelab: Lab) -> None:
    operators = homelab.folder / "operators-kubeconfig"
    assert not operators.exists()
    assert stat.S_IMODE((homelab.workspace / "kubeconfig").stat().st_mode) == 0o600
    homelab.gpuctl("kubeconfig", "--merge")
    merged = yaml.safe_load(operators.read_text(encoding="utf-8"))
    assert [context["name"] for context in merged["contexts"]] == ["homelab"]
    assert merged["clusters"][0]["cluster"]["server"] == "https://10.0.0.100:6443"


def test_the_plan_is_empty_then_and_a_second_apply_mutates_nothing(homelab: Lab) -> None:
    homelab.gpuctl("plan", "--detailed-exitcode", code=0)
    before = state(homelab)
    done = homelab.gpuctl("apply", "--yes")
    assert "0 changes" in done.stdout
    after = state(homelab)
    for what, was in before.items():
        assert after[what] == was, what


def test_a_second_run_is_refused_and_told_why(homelab: Lab) -> None:
    process = subprocess.Popen(
        homelab.command("apply", "--yes"), env=homelab.environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    done = homelab.gpuctl("apply", "--yes", code=5)
    assert str(process.pid) in done.stderr
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode in (0, 143)


def test_a_label_somebody_changed_is_put_back_and_a_new_one_is_set(homelab: Lab) -> None:
    homelab.edit("      gpus: {model", "      labels: {team: vision}\n      gpus: {model")
    plan = homelab.gpuctl("plan", "--detailed-exitcode", code=3).stdout
    assert "team=vision" in plan
    homelab.gpuctl("bootstrap", "--yes")
    get = "k3s kubectl get node wk-gpu1 -o jsonpath={.metadata.labels.team}"
    assert homelab.inside(9011, get) == "vision"
    homelab.edit("      labels: {team: vision}\n", "")
    homelab.gpuctl("bootstrap", "--yes")
    assert homelab.inside(9011, get) == ""
    homelab.gpuctl("plan", "--detailed-exitcode", code=0)


def test_a_dead_host_is_named_by_verify_and_status(homelab: Lab) -> None:
    homelab.call("kill", vmid=9022)
    deadline = time.monotonic() + 120
    while "NotReady" not in homelab.inside(9011, "k3s kubectl get nodes wk-gpu2 --no-headers"):
        assert time.monotonic() < deadline
        time.sleep(2)
    report = json.loads(homelab.gpuctl("verify", "--quick", "-o", "json", code=6).stdout)
    outcome = {check["id"]: check["outcome"] for check in report["checks"]}
    failed = {id for id, said in outcome.items() if said == "fail"}
    assert {"INF-01", "INF-05", "CLU-01"} <= failed
    # what the dead host keeps us from measuring is not a pass
    assert outcome["INF-06"] == outcome["CLU-18"] == "unknown"
    assert outcome["CLU-03"] == outcome["CLU-07"] == "pass"
    for check in report["checks"]:
        assert check["outcome"] == "pass" or check["reason"]
    assert "stopped" in homelab.gpuctl("status").stdout


def test_losing_a_server_too_moves_the_vip_and_one_apply_brings_both_back(homelab: Lab) -> None:
    holder = next(vmid for vmid in SERVERS if "10.0.0.100" in homelab.inside(vmid, "ip -4 addr"))
    homelab.inside(holder, "systemctl stop k3s")
    deadline = time.monotonic() + 60
    others = [vmid for vmid in SERVERS if vmid != holder]
    while not any("10.0.0.100" in homelab.inside(vmid, "ip -4 addr") for vmid in others):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    said = outcomes(homelab, "CLU-03", "CLU-07", code=6)
    assert f"cp{holder - 9010}: no etcd member answers" in said["CLU-03"]["reason"]
    assert f"cp{holder - 9010}: " in said["CLU-07"]["reason"]
    homelab.call("kill", vmid=holder)
    done = homelab.gpuctl("apply", "--yes")
    assert homelab.proven in done.stdout


def test_nodes_are_replaced_and_leave_with_consent_only(homelab: Lab) -> None:
    """A server and a worker made anew, another worker gone."""
    homelab.edit("count: 4\n      addresses: 10.0.0.21-10.0.0.24", "count: 3\n      addresses: 10.0.0.21-10.0.0.23")
    before = homelab.mutations()
    done = homelab.gpuctl("apply", "--yes", code=2)
    assert "--remove wk-gpu4" in done.stderr
    assert "the VM of wk-gpu4 is still there" in homelab.gpuctl("bootstrap", "--yes", code=1).stderr
    assert "wk-gpu4" in homelab.inside(9011, "k3s kubectl get nodes -o name")
    assert homelab.mutations() == before
    consent = ("--replace", "wk-gpu1", "--replace", "cp2", "--remove", "wk-gpu4")
    plan = homelab.gpuctl("plan", *consent, "--detailed-exitcode", code=3).stdout
    assert "vm/wk-gpu1" in plan
    assert "LOSES DATA" in plan
    refused = homelab.gpuctl("apply", "--yes", "--replace", "cp1", *consent, code=2).stderr
    assert "etcd would lose its majority" in refused
    assert "one server a run: gpuctl apply --replace cp1" in refused
    assert homelab.mutations() == before
    identity = "cat /etc/machine-id /etc/rancher/node/password"
    worker, server = homelab.inside(9021, identity), homelab.inside(9012, identity)
    done = homelab.gpuctl("apply", "--yes", *consent)
    assert homelab.proven in done.stdout
    assert homelab.inside(9021, identity) != worker
    assert homelab.inside(9012, identity) != server
    assert "wk-gpu4" not in homelab.inside(9011, "k3s kubectl get nodes -o name")
    homelab.gpuctl("plan", "--detailed-exitcode", code=0)


def test_destroy_wants_the_name_and_proves_itself(homelab: Lab) -> None:
    assert "--confirm homelab" in homelab.gpuctl("destroy", code=2).stderr
    homelab.gpuctl("destroy", "--confirm", "other", code=2)
    homelab.edit("name: homelab\n", "name: homelab\nprotect: true\n")
    assert "protected" in homelab.gpuctl("destroy", "--confirm", "homelab", code=2).stderr
    homelab.edit("protect: true\n", "")
    done = homelab.gpuctl("destroy", "--confirm", "homelab")
    assert "proved: no VM, disk, mapping or image of homelab is left" in done.stdout
    assert not (homelab.workspace / "kubeconfig").exists()
    operators = yaml.safe_load((homelab.folder / "operators-kubeconfig").read_text(encoding="utf-8"))
    assert not operators["contexts"]
    assert not (homelab.workspace / "terraform/terraform.tfstate").exists()
    assert not (homelab.workspace / "known_hosts").exists()
