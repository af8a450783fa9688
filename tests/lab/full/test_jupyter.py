"""The jupyter phase, notebooks as users have them, and what verify says of damage; on one small lab, in order."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import Lab, eventually, kubectl, meanwhile, outcomes
from tests.lab.full.conftest import Applied
from tests.lab.test_gpu import HOLDER

pytestmark = pytest.mark.usefixtures("applied")
WORKER = 9021
NAMESPACE = "jupyterhub"
OPEN = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: everything, namespace: jupyterhub}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}
"""
INTRUDER = """
apiVersion: v1
kind: Pod
metadata: {name: intruder, namespace: jupyterhub}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      image: docker.io/rancher/mirrored-library-busybox:1.37.0
      command: [sleep, "3600"]
      securityContext: {privileged: true}
"""


# pods, and not their host, write slowly to the scratch disk. A limit of this kind of group is not its children's: each
# group is given it, also those of pods to come
SLOW = f"""
touch /run/slow
setsid sh -c '
  device=$(findmnt -no MAJ:MIN /var/lib/gpuctl/scratch)
  while [ -e /run/slow ]; do
    for group in $(find /sys/fs/cgroup/blkio/kubepods -mindepth 2 -type d); do
      echo "$device {20 << 20}" > $group/blkio.throttle.write_bps_device
    done
    sleep 0.5
  done' > /dev/null 2>&1 < /dev/null &
"""
FAST = "rm /run/slow"


RESTARTED = (
    f"-n {NAMESPACE} get deployment hub -o "
    r"'jsonpath={.spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt}'"
)


def notebook(lab: Lab, what: str, user: str, argument: str = "") -> str:
    """Start, run code in, or stop a user's notebook, inside the lab's network."""
    command = ["nsenter", f"--net=/run/netns/{lab.instance.lan}", sys.executable, "-m", "tests.lab.notebook"]
    done = subprocess.run(
        [*command, str(lab.spec), str(lab.site), what, user, argument],
        env=lab.environment(), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def versions(lab: Lab) -> dict[str, str]:
    """Resource version of everything in the notebooks' namespace that only changes when somebody changes it."""
    kinds = (
        "deployments,daemonsets,services,secrets,configmaps,networkpolicies,resourcequotas,limitranges,ingresses,pvc"
    )
    items = json.loads(kubectl(lab, f"-n {NAMESPACE} get {kinds} -o json"))["items"]
    # status of quotas and workloads moves by itself
    return {f"{i['kind']}/{i['metadata']['name']}": str(i["metadata"].get("generation", i.get("data"))) for i in items}


def secret(lab: Lab) -> dict[str, str]:
    data = json.loads(kubectl(lab, f"-n {NAMESPACE} get secret hub-gpuctl -o json"))["data"]
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def apply_object(lab: Lab, text: str) -> None:
    lab.inside(9011, f"k3s kubectl apply -f - <<'END'\n{text}\nEND")


def test_apply_ends_with_notebooks_that_work(full: Lab, applied: Applied) -> None:
    assert "hub/hub.example  answers" in applied.said
    assert full.proven in applied.said
    found = {
        check["id"]: check
        for check in applied.report["checks"]
        if check["id"].startswith("APP-") or check["id"] == "SEC-05"
    }
    assert [check["outcome"] for check in found.values()] == ["pass"] * 8
    assert found["APP-03"]["measured"] == "1, 2 GPUs seen (computed without a GPU library, which the image lacks)"
    assert found["APP-02"]["measured"].startswith("3 of 3 profiles")
    # nothing of the temporary user is left
    assert kubectl(full, f"-n {NAMESPACE} get pvc -l component=singleuser-storage -o name") == ""


def test_a_second_apply_changes_nothing_and_the_secrets_are_in_no_output(full: Lab) -> None:
    full.gpuctl("plan", "--detailed-exitcode", code=0)
    before = versions(full)
    full.gpuctl("jupyter", "--yes")
    assert versions(full) == before
    secrets = [value for name, value in secret(full).items() if name != "values.yaml"]
    written = [path for path in full.workspace.rglob("*") if path.is_file()]
    for value in [*secrets, full.environment()["HUB_PASSWORD"]]:
        assert not [path for path in written if value.encode() in path.read_bytes()]


@contextmanager
def working(lab: Lab, user: str, profile: str) -> Iterator[None]:
    """A user's notebook that computes, before and after."""
    assert notebook(lab, "start", user, profile) == "ready"
    try:
        assert notebook(lab, "run", user, "print(6 * 7)") == "42"
        yield
        assert notebook(lab, "run", user, "print(6 * 7)") == "42"
    finally:
        assert notebook(lab, "stop", user) == "stopped"


def test_cards_that_notebooks_hold_are_theirs_and_a_full_quota_is_no_fault(full: Lab) -> None:
    with working(full, "alice", "two"):
        full.plan("jupyter", code=0)
        said = outcomes(full, "APP-02", "APP-03", "APP-04", code=7)
    assert [check["outcome"] for check in said.values()] == ["unknown", "unknown", "pass"]
    used = "the quota is used up: namespace, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=2, "
    assert f"one: {used}limited: requests.nvidia.com/gpu=2; two: " in said["APP-02"]["reason"]


def test_what_would_give_up_homes_is_refused_by_name(full: Lab) -> None:
    full.edit("home: {size: 1GiB}", "home: {size: 1GiB, class: local-disk}")
    refused = full.gpuctl("plan", "--phase", "jupyter", code=2).stderr
    assert "refused: 1 homes have another storage class than local-disk" in refused
    assert "claim-alice: nfs-client" in refused
    full.edit("home: {size: 1GiB, class: local-disk}", "home: {size: 1GiB}")


def test_a_new_password_reaches_the_hub_and_no_key_is_rotated(full: Lab) -> None:
    before = secret(full)
    full.edit("password: env:HUB_PASSWORD", "password: env:OTHER_PASSWORD")
    full.other["OTHER_PASSWORD"] = "another-password"
    plan = full.plan("jupyter", code=3)
    assert "values.yaml  [the hub restarts, running notebooks go on]" in plan
    assert "another-password" not in plan
    full.gpuctl("jupyter", "--yes")
    # also when the run is killed before the hub is restarted
    restarted = kubectl(full, RESTARTED)
    full.other["OTHER_PASSWORD"] = "yet-another-password"
    killed = full.interrupted("jupyter", "--yes", at="secret/hub-gpuctl  written", number=signal.SIGKILL)
    assert killed == -signal.SIGKILL
    full.gpuctl("jupyter", "--yes")
    assert kubectl(full, RESTARTED) != restarted
    after = secret(full)
    assert "yet-another-password" in after.pop("values.yaml")
    assert after == {name: value for name, value in before.items() if name != "values.yaml"}
    full.plan("jupyter", code=0)


def test_kill_in_the_phase_and_on(full: Lab) -> None:
    full.edit("quota: {notebooks: 4", "culling: {idle: 2h}\n  quota: {notebooks: 4")
    assert full.interrupted("jupyter", "--yes", at="==> jupyter", number=signal.SIGKILL) == -signal.SIGKILL
    full.gpuctl("jupyter", "--yes")
    full.plan("jupyter", code=0)


def test_a_hub_that_is_down_is_named_once_and_brought_back(full: Lab) -> None:
    kubectl(full, f"-n {NAMESPACE} scale deployment hub --replicas=0")
    eventually(full, f"-n {NAMESPACE} get pods -l component=hub -o name", "")
    said = outcomes(full, "applications", code=6)
    assert said["APP-01"]["outcome"] == "fail"
    assert {check["cause"] for check in said.values()} == {said["APP-01"]["cause"]}
    assert "deployment/hub changed" in full.plan("jupyter", code=3)
    full.gpuctl("jupyter", "--yes")
    assert outcomes(full, "APP-01", code=0)["APP-01"]["outcome"] == "pass"


@contextmanager
def saboteur(lab: Lab) -> Iterator[None]:
    """Keeps notebooks of two cards from going, and takes the file away by which homes are tried."""
    pods = f"k3s kubectl -n {NAMESPACE} get pods -l component=singleuser-server -o "
    # only those that are not held yet: each kubectl takes a good part of a second of the machine's two cores
    fields = "{.spec.containers[0].resources.limits.nvidia\\.com/gpu}/{.metadata.finalizers}"
    stuck = '\'{"metadata":{"finalizers":["example.com/stuck"]}}\''
    hold = (
        f"{pods} 'jsonpath={{range .items[*]}}{{.metadata.name}} {fields}{{\"\\n\"}}{{end}}' | "
        "while read -r name found; do [ $found = 2/ ] || continue; "
        f"k3s kubectl -n {NAMESPACE} patch pod $name --type merge -p {stuck}; done; true"
    )

    def forget() -> None:
        for folder, _, files in os.walk(lab.instance.root / "nfs/exports"):
            if ".gpuctl-verify" in files:
                Path(folder, ".gpuctl-verify").unlink(missing_ok=True)

    try:
        with meanwhile(0.3, forget), meanwhile(2, lambda: lab.inside(9011, hold)):
            yield
    finally:
        free = '\'{"metadata":{"finalizers":null}}\''
        lab.inside(
            9011, f"for p in $({pods} name); do k3s kubectl -n {NAMESPACE} patch $p --type merge -p {free}; done"
        )


def test_each_damage_fails_its_check(full: Lab) -> None:
    """Cards that are promised only, homes that lose files, slow disks, open networks, pods that will not go."""
    kubectl(full, f"label namespace {NAMESPACE} pod-security.kubernetes.io/enforce=privileged --overwrite")
    apply_object(full, INTRUDER)
    apply_object(full, OPEN)
    full.inside(WORKER, SLOW)
    full.edit("{name: one, gpus: 1", "{name: one, gpus: 2")
    try:
        with saboteur(full):
            said = outcomes(full, "APP-03", "APP-04", "APP-05", "APP-06", "APP-07", "SEC-05", code=6)
    finally:
        full.edit("{name: one, gpus: 2", "{name: one, gpus: 1")
        full.inside(WORKER, FAST)
        kubectl(full, f"-n {NAMESPACE} delete pod intruder")
        kubectl(full, f"-n {NAMESPACE} delete networkpolicy everything")
    reasons = {id: check["reason"] for id, check in said.items()}
    assert "one: sees 1 of 2" in reasons["APP-03"]
    assert "cpu: a file is gone or changed after a restart" in reasons["APP-04"]
    assert "wk1: only " in reasons["APP-05"]
    assert "cpu: reaches Kubernetes API" in reasons["APP-06"]
    assert "two: after 9" in reasons["APP-07"]
    assert "intruder: c is privileged" in reasons["SEC-05"]
    assert "namespace/jupyterhub" in full.plan("jupyter", code=3)
    full.gpuctl("jupyter", "--yes")


def test_an_image_that_cannot_be_pulled_is_named_and_others_cards_are_left_alone(full: Lab) -> None:
    apply_object(full, HOLDER)
    eventually(full, "get pod alice -o 'jsonpath={.status.phase}'", "Running")
    full.edit(
        "{name: cpu, cpus: 1, memory: 2GiB}", "{name: cpu, cpus: 1, memory: 2GiB, image: 'quay.io/nobody/nothing:1'}"
    )
    full.gpuctl("jupyter", "--yes")
    said = outcomes(full, "applications", code=6)
    kubectl(full, "delete pod alice")
    assert "cpu: the notebook does not start: " in said["APP-02"]["reason"]
    assert "ImagePull" in said["APP-02"]["reason"]
    assert said["APP-04"]["cause"] == said["APP-02"]["cause"]
    assert "cards are held by default/alice" in said["APP-03"]["reason"]
    full.edit(", image: 'quay.io/nobody/nothing:1'}", "}")
    full.gpuctl("jupyter", "--yes")


def test_a_run_that_was_killed_among_notebooks_leaves_nothing_to_the_next(full: Lab) -> None:
    number = signal.SIGKILL
    assert full.interrupted("verify", "--only", "APP-02", at="notebook one", number=number) == -number
    time.sleep(1)
    found: dict[str, Any] = outcomes(full, "APP-02", code=0)
    assert found["APP-02"]["outcome"] == "pass"
    users = "get pvc -l component=singleuser-storage -o 'jsonpath={.items[*].metadata.name}'"
    assert kubectl(full, f"-n {NAMESPACE} {users}") == "claim-alice"


RANCHER = "rancher: {hostname: rancher.example, replicas: 1}"
GITOPS = """
  gitops:
    repo: https://git.example/platform/clusters.git
    path: clusters/small
    polling: 2s
    credentials: {username: gpuctl, password: env:GIT_PASSWORD}
    bundles: [policies, jupyterhub]"""
UIDS = "get pvc,deployments -o 'jsonpath={.items[*].metadata.uid}'"


def test_fleet_takes_over_the_hub_as_it_runs_and_brings_what_the_spec_changes(full: Lab) -> None:
    """And gpuctl takes it back: no claim and no Deployment is made anew on either way."""
    before = kubectl(full, f"-n {NAMESPACE} {UIDS}")
    full.edit(RANCHER, RANCHER + GITOPS)
    for bundle in ("policies", "jupyterhub"):
        full.gpuctl("gitops", "adopt", bundle, "--yes")
    full.gpuctl("jupyter", "--yes")  # waits for Fleet, if it is not done
    assert "nothing to change" in full.gpuctl("jupyter", "--yes").stdout
    full.edit("{name: cpu, cpus: 1, memory: 2GiB}", "{name: cpu, cpus: 1, memory: 1GiB}")
    alone = full.gpuctl("jupyter", "--yes", code=1)
    assert "the phase manage gives it to the repository first" in alone.stdout
    assert "the repository does not have the bundle jupyterhub as the spec wants it" in alone.stderr
    done = full.gpuctl("apply", "--yes").stdout
    assert "fleet/jupyterhub" in done
    assert full.proven in done
    full.gpuctl("plan", "--detailed-exitcode", code=0)
    full.edit(GITOPS, "")
    assert "belongs to Fleet's bundle" in full.gpuctl("jupyter", "--yes", code=1).stderr
    full.edit(RANCHER, RANCHER + GITOPS.replace("[policies, jupyterhub]", "[monitoring]"))
    for bundle in ("policies", "jupyterhub"):
        full.gpuctl("gitops", "adopt", bundle, "--yes")
    assert "nothing to change" in full.gpuctl("jupyter", "--yes").stdout
    assert kubectl(full, f"-n {NAMESPACE} {UIDS}") == before
