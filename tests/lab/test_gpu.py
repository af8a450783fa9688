"""The gpu phase and what verify says of damaged cards, on one worker with two cards, in order."""

from __future__ import annotations

import base64
import gzip
import json
import signal
import time
from typing import Any

import pytest

from gpuctl.verify.checks import STRESS
from tests.lab.conftest import Lab, eventually, kubectl, outcomes

WORKER = 9021
HOLDER = """
apiVersion: v1
kind: Pod
metadata: {name: alice, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
    - name: notebook
      image: docker.io/rancher/mirrored-library-busybox:1.37.0
      command: [sleep, "3600"]
      resources: {limits: {nvidia.com/gpu: "2"}}
"""


ALLOCATABLE = "get node wk1 -o 'jsonpath={.status.allocatable.nvidia\\.com/gpu}'"


def test_apply_proves_every_card(small: Lab) -> None:
    done = small.gpuctl("apply", "--yes")
    assert "cards/wk1  2 of 2 cards proven" in done.stdout
    assert small.proven in done.stdout


@pytest.mark.parametrize(
    ("fault", "check", "reason"),
    [
        ({"xid": 79}, "GPU-17", "Xid 79"),
        ({"gone": True}, "GPU-01", "driver: nvidia-smi lists 1 of 2 cards"),
        ({"ecc_uncorrectable": 3}, "GPU-16", "3 uncorrectable SRAM errors"),
        ({"remap_pending": True}, "GPU-16", "a row remap is pending"),
        ({"persistence": False}, "GPU-19", "Disabled"),
    ],
)
def test_a_damaged_card_is_named_by_its_check(small: Lab, fault: dict[str, Any], check: str, reason: str) -> None:
    small.call("card", vmid=WORKER, index=1, **fault)
    time.sleep(1)
    said = outcomes(small, check, code=6)
    small.call("card", vmid=WORKER, index=1)
    assert reason in said[check]["reason"]
    time.sleep(1)


def test_an_unhealthy_card_is_named_by_layer_and_the_phase_does_not_wait_for_it(small: Lab) -> None:
    small.call("card", vmid=WORKER, index=0, healthy=False)
    eventually(small, ALLOCATABLE, "1")
    assert (
        "device plugin: the node offers nvidia.com/gpu 1 of 2" in outcomes(small, "GPU-01", code=6)["GPU-01"]["reason"]
    )
    started = time.monotonic()
    done = small.gpuctl("gpu", "--yes", code=1)
    assert "wk1: device plugin: the node offers nvidia.com/gpu 1 of 2" in done.stderr
    assert time.monotonic() - started < 120
    small.call("card", vmid=WORKER, index=0)
    eventually(small, ALLOCATABLE, "2")


def test_a_runtime_that_hands_out_cards_by_environment_is_found(small: Lab) -> None:
    file = "/usr/local/nvidia/toolkit/accepts-environment"
    small.inside(WORKER, f"touch {file}")
    assert "sees 2 cards" in outcomes(small, "GPU-07", code=6)["GPU-07"]["reason"]
    small.inside(WORKER, f"rm {file}")
    assert outcomes(small, "GPU-07", code=0)["GPU-07"]["outcome"] == "pass"


# the kubelet runs half a second of every eight and a half
PAUSED = """
p=$(pgrep -f "[k]3s kubelet")
systemd-run --quiet --unit slow sh -c "while :; do kill -STOP $p; sleep 8; kill -CONT $p; sleep 0.5; done" """
RESUMED = 'systemctl stop slow; kill -CONT $(pgrep -f "[k]3s kubelet")'


@pytest.mark.parametrize(
    ("damage", "repair", "checks", "reason"),
    [
        ("ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500", ("CLU-11",), "of 1450 bytes reach wk1"),
        (
            "tc qdisc add dev flannel.1 root tbf rate 20mbit burst 32k latency 50ms",
            "tc qdisc del dev flannel.1 root",
            ("CLU-10",),
            "wk1 to cp1: 0.0",
        ),
        (PAUSED, RESUMED, ("CLU-17",), "s at best"),
    ],
)
def test_a_damaged_way_or_a_slow_node_is_named(
    small: Lab, damage: str, repair: str, checks: tuple[str, ...], reason: str
) -> None:
    small.inside(WORKER, damage)
    try:
        said = outcomes(small, *checks, code=6)
    finally:
        small.inside(WORKER, repair)
    assert reason in said[checks[0]]["reason"]


def test_quick_starts_no_pod_and_says_what_it_left_out(small: Lab) -> None:
    page = small.folder / "report.html"
    events = kubectl(small, "get events -A -o name")
    started = time.monotonic()
    done = small.gpuctl("verify", "--quick", "--html", str(page))
    assert time.monotonic() - started < 60
    assert kubectl(small, "get events -A -o name") == events
    assert "not measured: left out by --quick: CLU-09" in done.stdout
    text = page.read_text(encoding="utf-8")
    kept = json.loads((small.workspace / "reports/verify.json").read_text(encoding="utf-8"))
    cards = [card["uuid"] for card in kept["picture"]["machines"][1]["cards"]]
    assert len(cards) == 2
    assert all(uuid in text for uuid in cards)
    assert "simulated here" in text
    assert "<svg" in (small.workspace / "reports/verify.html").read_text(encoding="utf-8")


def test_watching_ends_cleanly_when_it_is_stopped(small: Lab) -> None:
    code = small.interrupted("verify", "--watch", "--quick", "--every", "1", at="checks", number=signal.SIGTERM)
    assert code == 0


def test_the_stress_is_never_a_pass_here(small: Lab) -> None:
    said = outcomes(small, *(check.id for check in STRESS), stress=True, code=7)
    assert {one["outcome"] for one in said.values()} <= {"unknown", "skipped"}
    assert all(one["reason"] for one in said.values())


def test_cards_that_a_pod_holds_are_left_to_it_and_said(small: Lab) -> None:
    small.inside(9011, f"k3s kubectl apply -f - <<'END'\n{HOLDER}\nEND")
    eventually(small, "get pod alice -o 'jsonpath={.status.phase}'", "Running")
    small.plan("gpu", code=0)
    kubectl(small, "annotate node wk1 gpuctl.io/cuda-proof-")
    plan = small.plan("gpu", code=0)
    assert "wk1: 2 cards not proven, held by default/alice" in plan
    small.gpuctl("apply", "--yes", code=7)
    said = outcomes(small, "GPU-04", code=7)["GPU-04"]
    assert (said["outcome"], "held by default/alice" in said["reason"]) == ("unknown", True)
    assert kubectl(small, "get pod alice -o 'jsonpath={.status.phase}'") == "Running"
    kubectl(small, "delete pod alice")
    small.plan("gpu", code=3)
    assert "2 of 2 cards proven" in small.gpuctl("gpu", "--yes").stdout
    small.plan("gpu", code=0)


def test_a_card_on_which_cuda_fails_is_named(small: Lab) -> None:
    kubectl(small, "annotate node wk1 gpuctl.io/cuda-proof-")
    small.call("card", vmid=WORKER, index=1, xid=48)
    time.sleep(1)
    done = small.gpuctl("gpu", "--yes", code=1)
    small.call("card", vmid=WORKER, index=1)
    assert "CUDA failed on 1 card" in done.stderr
    assert "wk1 GPU-" in done.stderr
    assert "1 of 2 cards proven" in done.stdout
    assert "CUDA has not run on GPU-" in outcomes(small, "GPU-04", code=6)["GPU-04"]["reason"]
    assert "2 of 2 cards proven" in small.gpuctl("gpu", "--yes").stdout


def test_what_somebody_changed_of_the_release_is_put_back(small: Lab) -> None:
    kubectl(small, "-n gpu-operator scale deployment gpu-operator --replicas=0")
    kubectl(small, "-n gpu-operator delete daemonset gpu-operator-node-feature-discovery-worker")
    plan = small.plan("gpu", code=3)
    assert "deployment/gpu-operator changed" in plan
    assert "daemonset/gpu-operator-node-feature-discovery-worker missing" in plan
    small.gpuctl("gpu", "--yes")
    small.plan("gpu", code=0)


def test_time_slicing_comes_and_goes(small: Lab) -> None:
    small.edit("count: 2}", "count: 2, sharing: time-slicing, replicas: 3}")
    plan = small.plan("gpu", code=3)
    assert "nvidia.com/device-plugin.config=time-slicing-3" in plan
    small.gpuctl("gpu", "--yes")
    assert kubectl(small, ALLOCATABLE) == "6"
    small.plan("gpu", code=0)
    assert {said["outcome"] for said in outcomes(small, "gpu", code=0).values()} == {"pass"}
    small.edit(", sharing: time-slicing, replicas: 3}", "}")
    small.gpuctl("gpu", "--yes")
    assert kubectl(small, ALLOCATABLE) == "2"
    small.plan("gpu", code=0)


def test_cards_are_cut_by_mig_and_made_whole_again(small: Lab) -> None:
    small.inside(9011, f"k3s kubectl apply -f - <<'END'\n{HOLDER}\nEND")
    eventually(small, "get pod alice -o 'jsonpath={.status.phase}'", "Running")
    small.edit("count: 2}", "count: 2, sharing: mig, mig: all-balanced}")
    refused = small.gpuctl("plan", "--phase", "gpu", code=1).stderr
    assert "cannot be cut anew" in refused
    assert "default/alice" in refused
    kubectl(small, "delete pod alice")
    assert "nvidia.com/mig.config=all-balanced" in small.plan("gpu", code=3)
    small.gpuctl("gpu", "--yes")
    small.plan("gpu", code=0)
    slices = kubectl(small, "get node wk1 -o 'jsonpath={.status.allocatable}'")
    for resource in ('"nvidia.com/mig-1g.10gb":"4"', '"nvidia.com/mig-2g.20gb":"2"', '"nvidia.com/mig-3g.40gb":"2"'):
        assert resource in slices
    assert {said["outcome"] for said in outcomes(small, "gpu", code=0).values()} == {"pass"}
    small.edit("all-balanced}", "all-1g.10gb}")
    small.gpuctl("gpu", "--yes")
    assert kubectl(small, ALLOCATABLE) == "14"
    small.edit(", sharing: mig, mig: all-1g.10gb}", "}")
    small.gpuctl("gpu", "--yes")
    assert kubectl(small, ALLOCATABLE) == "2"
    small.plan("gpu", code=0)


def test_what_a_killed_helm_left_is_taken_up_by_the_next_run(small: Lab) -> None:
    """Its record is written as Helm writes it before it touches the first object."""
    record = json.loads(kubectl(small, "-n gpu-operator get secret -l owner=helm,status=deployed -o json"))["items"][0]
    body = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(record["data"]["release"]))))
    body["version"] += 1
    body["info"]["status"] = "pending-upgrade"
    name = f"sh.helm.release.v1.gpu-operator.v{body['version']}"
    labels = {**record["metadata"]["labels"], "status": "pending-upgrade", "version": str(body["version"])}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(body).encode()))).decode()
    metadata = {"name": name, "namespace": "gpu-operator", "labels": labels}
    pending = {**record, "metadata": metadata, "data": {"release": packed}}
    small.inside(9011, f"k3s kubectl create -f - <<'END'\n{json.dumps(pending)}\nEND")
    assert "pending-upgrade" in outcomes(small, "MGT-05", code=6)["MGT-05"]["reason"]
    assert "left pending-upgrade by an earlier run" in small.plan("gpu", code=3)
    assert "taken up where it was left" in small.gpuctl("gpu", "--yes").stdout
    small.plan("gpu", code=0)


def test_kill_in_the_gpu_phase(small: Lab) -> None:
    kubectl(small, "-n gpu-operator scale deployment gpu-operator --replicas=0")
    kubectl(small, "annotate node wk1 gpuctl.io/cuda-proof-")
    assert small.interrupted("gpu", "--yes", at="==> gpu", number=signal.SIGKILL) == -signal.SIGKILL
    small.gpuctl("gpu", "--yes")
    small.plan("gpu", code=0)


def test_a_release_of_somebody_else_is_not_touched(small: Lab) -> None:
    kubectl(small, "-n gpu-operator label secret -l owner=helm gpuctl.io/cluster=another --overwrite")
    before = kubectl(small, "-n gpu-operator get secrets -o name")
    done = small.gpuctl("gpu", "--yes", code=1)
    assert "was not made by gpuctl" in done.stderr
    assert kubectl(small, "-n gpu-operator get secrets -o name") == before


DEPRECATED = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.test.gpuctl.io}
spec:
  group: test.gpuctl.io
  scope: Cluster
  names: {kind: Thing, plural: things}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
    - {name: v1beta1, served: true, storage: false, deprecated: true, schema: {openAPIV3Schema: {type: object}}}
"""


def test_somebody_who_uses_a_deprecated_api_is_found(small: Lab) -> None:
    """The last one: the server counts it until it restarts."""
    small.inside(9011, f"k3s kubectl apply -f - <<'END'\n{DEPRECATED}\nEND")
    kubectl(small, "wait --for condition=established crd/things.test.gpuctl.io")
    eventually(small, "get --raw /apis/test.gpuctl.io/v1beta1/things | grep -c ThingList", "1")
    reason = outcomes(small, "CLU-19", code=6)["CLU-19"]["reason"]
    assert "test.gpuctl.io/v1beta1 things: deprecated by its maker" in reason
