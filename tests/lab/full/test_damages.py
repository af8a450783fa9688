"""Damage that a check must name, done to a cluster that is whole otherwise, and undone. Each on its own.

What else damages something is in the test of its phase: cards, ways and slow nodes in test_gpu.py, notebooks in
test_jupyter.py, releases, certificates and volumes in test_manage.py, dead hosts in test_whole.py.
"""

from __future__ import annotations

import pytest

from tests.lab.conftest import Lab, eventually, kubectl, outcomes

SERVER, WORKER = 9011, 9021
SNAPSHOTS = "/var/lib/rancher/k3s/server/db/snapshots"
CRASHING = """
apiVersion: v1
kind: Pod
metadata: {name: crashing, namespace: kube-system}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "docker.io/rancher/mirrored-library-busybox:1.37.0", command: [sh, -c, exit 1]}]
"""
# the key of a Secret and a value that nobody encrypted, as etcd keeps them
READABLE = r"printf '/registry/secrets/default/bank\n\022k8s\000pin=1234'"
FORGED = (
    "mv /usr/bin/date /usr/bin/date.real; printf '%s\\n' '#!/bin/sh' 'exec /usr/bin/date.real -d \"2 seconds\" \"$@\"' "
)
BLOCK = (
    "nft add table ip broken; nft add chain ip broken in '{ type filter hook input priority -300; }'; "
    "nft add rule ip broken in udp dport 8472 drop"
)
# nobody approves this kind
WAITING = """
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: waiting}
spec: {request: REQUEST, signerName: example.com/nobody, usages: [client auth]}
"""
REQUEST = "openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=somebody 2>/dev/null | base64 -w0"
# an API that knows anonymous users, and a binding that lets them see everything
CONFIG = "/etc/rancher/k3s/config.yaml"
ANSWERS = "until k3s kubectl get --raw /readyz >/dev/null 2>&1; do sleep 1; done"
OPEN = (
    f"cp -p {CONFIG} /root; printf '%s\\n' 'kube-apiserver-arg: [anonymous-auth=true]' >> {CONFIG}; "
    f"systemctl restart k3s; {ANSWERS}; "
    "k3s kubectl create clusterrolebinding open --clusterrole=cluster-admin --user=system:anonymous"
)
SHUT = f"k3s kubectl delete clusterrolebinding open; cp -p /root/config.yaml {CONFIG}; systemctl restart k3s; {ANSWERS}"
DNS = "k3s kubectl -n kube-system scale deployment coredns --replicas="

DAMAGES = [
    ("CLU-06", SERVER, f"touch -d '2 days ago' {SNAPSHOTS}/*", f"touch {SNAPSHOTS}/*", "is 48 h old"),
    ("CLU-08", SERVER, f"k3s kubectl apply -f - <<'END'\n{CRASHING}\nEND",
     "k3s kubectl -n kube-system delete pod crashing", "crashing: "),
    ("CLU-09", WORKER, BLOCK, "nft delete table ip broken", "100 % lost to "),
    ("CLU-12", SERVER, f"{DNS}0", f"{DNS}1", "wk1: 0 of 100"),
    ("CLU-18", SERVER, f"sed \"s/REQUEST/$({REQUEST})/\" <<'END' | k3s kubectl apply -f -\n{WAITING}\nEND",
     "k3s kubectl delete csr waiting", "waiting: waits for approval"),
    ("GPU-02", WORKER, "mv /run/nvidia/validations/cuda-ready /root", "mv /root/cuda-ready /run/nvidia/validations",
     "wk1: no cuda-ready"),
    ("INF-07", WORKER, f"{FORGED} > /usr/bin/date; chmod 755 /usr/bin/date", "mv /usr/bin/date.real /usr/bin/date",
     "wk1: +2."),
    ("SEC-01", SERVER, "chmod 644 /var/lib/rancher/k3s/server/token", "chmod 600 /var/lib/rancher/k3s/server/token",
     "cp1:/var/lib/rancher/k3s/server/token: mode 0644"),
    ("SEC-02", SERVER, OPEN, SHUT, "/api/v1/secrets: answers 200"),
    ("SEC-04", SERVER, f"{READABLE} > {SNAPSHOTS}/zz", f"rm {SNAPSHOTS}/zz", "cp1: 1 readable Secrets in zz"),
]  # fmt: skip

# the cluster is as it was, and the spec promises something else
PROMISES: list[tuple[str, dict[str, str], str]] = [
    ("CLU-02", {"v1.35.4+k3s1": "v1.35.3+k3s1"}, "v1.35.4+k3s1"),
    (
        "GPU-03",
        {"kubernetes: {version": "gpu: {operator: v26.3.2}\nkubernetes: {version"},
        "v26.3.3 instead of v26.3.2",
    ),
    ("INF-02", {"80gb, count: 2}": "80gb, count: 1}", "gpus: 2, cpus": "gpus: 1, cpus"}, "wk1: 2 cards instead of 1"),
    ("INF-04", {"cpus: 8": "cpus: 6"}, "vm/wk1"),
    ("INF-06", {"memory: 32GiB": "memory: 40GiB"}, "wk1: memory is -20.0% of the spec's"),
]

pytestmark = pytest.mark.usefixtures("applied")


@pytest.mark.parametrize(("check", "vmid", "damage", "repair", "reason"), DAMAGES, ids=[d[0] for d in DAMAGES])
def test_damage_is_named_by_its_check(full: Lab, check: str, vmid: int, damage: str, repair: str, reason: str) -> None:
    full.inside(vmid, damage)
    try:
        said = outcomes(full, check, code=6)
    finally:
        full.inside(vmid, repair)
    assert reason in said[check]["reason"]
    assert said[check]["next"]


@pytest.mark.parametrize(("check", "edits", "reason"), PROMISES, ids=[p[0] for p in PROMISES])
def test_a_promise_that_is_not_kept_is_named_by_its_check(
    full: Lab, check: str, edits: dict[str, str], reason: str
) -> None:
    before = full.spec.read_text(encoding="utf-8")
    for was, promised in edits.items():
        full.edit(was, promised)
    try:
        said = outcomes(full, check, code=6)
    finally:
        full.spec.write_text(before, encoding="utf-8")
    assert reason in said[check]["reason"]


def test_cards_without_metrics_or_labels_are_named(full: Lab) -> None:
    """The Operator puts back what it made: it is stopped for as long as it takes."""
    operator = "-n gpu-operator scale deployment gpu-operator --replicas"
    kubectl(full, f"{operator}=0")
    eventually(full, "-n gpu-operator get pods -l app=gpu-operator -o name", "")
    kubectl(full, "-n gpu-operator delete daemonset nvidia-dcgm-exporter gpu-feature-discovery --cascade=foreground")
    kubectl(full, "label node wk1 nvidia.com/gpu.product-")
    said = outcomes(full, "GPU-21", "GPU-22", code=6)
    kubectl(full, f"{operator}=1")
    assert "wk1: no exporter runs there" in said["GPU-21"]["reason"]
    assert "wk1: no product label" in said["GPU-22"]["reason"]
    full.gpuctl("gpu", "--yes")
    found = outcomes(full, "gpu", code=0)
    assert {one["outcome"] for one in found.values()} == {"pass"}
