"""The manage phase on the lab: ingress, storage, certificates, Rancher; what it refuses and repairs. In order."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.lab.conftest import ROOT, SMALL, Lab, _lab, kubectl, meanwhile, outcomes

SERVER = 9011
NFS = "  nfs: {server: 10.0.0.5, path: /export}\n"
RANCHER = "management:\n  rancher: {hostname: rancher.example, replicas: 1}\n"
MANAGED = (
    SMALL.replace("api_vip: 10.0.0.100}", "api_vip: 10.0.0.100, ingress_vip: 10.0.0.101}")
    .replace("{version: v1.35.4+k3s1}", "{version: v1.35.4+k3s1, ingress: nginx}")
    .replace("storage: {scratch: {class: fast-scratch}}\n", f"storage:\n  scratch: {{class: fast-scratch}}\n{NFS}")
    + RANCHER
)
CHECKS = ("CLU-13", "CLU-14", "CLU-15", "CLU-16", "MGT-01", "MGT-02", "SEC-03")
# everything that the phase makes, with its version
OBJECTS = (
    "get deployments,daemonsets,services,configmaps,secrets,roles,rolebindings,ingresses,certificates,namespaces,"
    "serviceaccounts,clusterissuers,storageclasses,csidrivers,settings.management.cattle.io,users.management.cattle.io,"
    "tokens.management.cattle.io -A "
    "-o custom-columns=:.kind,:.metadata.namespace,:.metadata.name,:.metadata.resourceVersion --no-headers"
)
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: thesis, namespace: default}
spec:
  storageClassName: nfs-client
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 1Mi}}
"""
# somebody puts the first password back
PUT_BACK = """
import sys
from pathlib import Path
from gpuctl.systems.https import Https
from gpuctl.systems.rancher import Rancher
ca, secrets = Path(sys.argv[1]), Path(sys.argv[2])
first, current = ((secrets / f"rancher-{name}-password").read_text().strip() for name in ("bootstrap", "admin"))
api = Rancher(Https("10.0.0.101", "rancher.example", ca.read_text()))
token = api.login(current)
api.change_password(token, current, first)
api.logout(token)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from _lab("tmanage", MANAGED, tmp_path_factory.mktemp("manage"))


def planned(lab: Lab) -> list[str]:
    """What the phase would do: ``action target``."""
    plans = json.loads(lab.gpuctl("plan", "--phase", "manage", "-o", "json").stdout)["plans"]
    (plan,) = (plan for plan in plans if plan["phase"] == "manage")
    assert not plan["unknown"]
    return [f"{change['action']} {change['target']}" for change in plan["changes"]]


def refusal(lab: Lab) -> str:
    done = lab.gpuctl("manage", "--yes", code=2)
    return done.stdout + done.stderr


def test_the_plan_changes_nothing_and_names_everything(lab: Lab) -> None:
    lab.gpuctl("provision", "--yes")
    lab.gpuctl("bootstrap", "--yes")
    before = kubectl(lab, "get namespaces,storageclasses,secrets -A -o name")
    assert planned(lab) == [
        "create helm/nginx-ingress",
        "update ingress/10.0.0.101",
        "create helm/local-storage",
        "create helm/csi-driver-nfs",
        "create helm/storage-classes",
        "create helm/cert-manager",
        "create helm/issuers",
        "create secret/bootstrap-secret",
        "create secret/tls-ca",
        "create helm/rancher",
        "create rancher/rancher.example",
    ]
    assert kubectl(lab, "get namespaces,storageclasses,secrets -A -o name") == before


def test_whenever_it_is_killed_the_same_command_continues(lab: Lab) -> None:
    for moment in ("helm/cert-manager  cert-manager", "rancher/rancher.example  password rotated"):
        assert lab.interrupted("manage", "--yes", at=moment, number=signal.SIGKILL) == -signal.SIGKILL
    assert "create helm/local-storage" not in planned(lab)
    done = lab.gpuctl("manage", "--yes")
    assert "server-url https://rancher.example" in done.stdout
    assert planned(lab) == []


def test_a_second_run_mutates_nothing(lab: Lab) -> None:
    before = kubectl(lab, OBJECTS)
    assert "Setting" in before
    lab.gpuctl("manage", "--yes")
    assert kubectl(lab, OBJECTS) == before


def test_what_it_made_is_proven(lab: Lab) -> None:
    found = outcomes(lab, *CHECKS, code=0)
    assert {id: check["outcome"] for id, check in found.items()} == dict.fromkeys(CHECKS, "pass")
    assert found["CLU-14"]["measured"] == "fast-scratch, local-disk, nfs-client; default nfs-client"
    left = kubectl(lab, "get pv,namespaces -o name")
    assert "persistentvolume/" not in left
    assert "gpuctl-verify" not in left


def test_no_password_is_shown_and_both_are_private(lab: Lab) -> None:
    secrets = [lab.workspace / "secrets" / f"rancher-{name}-password" for name in ("bootstrap", "admin")]
    first, current = (path.read_text(encoding="utf-8").strip() for path in secrets)
    assert first != current
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    written = [path for path in lab.workspace.rglob("*") if path.is_file() and path not in secrets]
    for path in written:
        text = path.read_bytes()
        assert first.encode() not in text, path
        assert current.encode() not in text, path


def test_rancher_reads_another_ca_also_when_the_run_is_killed_before_its_restart(lab: Lab) -> None:
    started = "-n cattle-system get pods -l app=rancher -o 'jsonpath={.items[*].metadata.uid}'"
    before = kubectl(lab, started)
    kubectl(lab, """-n cattle-system patch secret tls-ca --type=merge -p '{"data": {"cacerts.pem": "b2xk"}}'""")
    assert planned(lab) == ["update secret/tls-ca", "update rancher/rancher.example"]
    killed = lab.interrupted("manage", "--yes", at="secret/tls-ca  written", number=signal.SIGKILL)
    assert killed == -signal.SIGKILL
    lab.gpuctl("manage", "--yes")
    assert planned(lab) == []
    assert kubectl(lab, started) != before


@pytest.mark.parametrize(
    ("damage", "checks", "says", "repair"),
    [
        ("delete storageclass fast-scratch", ("CLU-14",), "fast-scratch: missing", "update helm/storage-classes"),
        (
            "-n nginx-ingress patch service nginx-ingress-controller --type=json"
            """ -p '[{"op": "remove", "path": "/spec/externalIPs"}]'""",
            ("CLU-13",),
            "cp1: the ingress 10.0.0.101: 0 of 5",
            "update helm/nginx-ingress",
        ),
        (
            "-n cattle-system scale deployment rancher --replicas=0",
            ("MGT-02", "MGT-01"),
            "Rancher: 0 of 1 replicas are ready",
            "update helm/rancher",
        ),
    ],
)
def test_damage_is_named_by_its_check_and_repaired(
    lab: Lab, damage: str, checks: tuple[str, ...], says: str, repair: str
) -> None:
    kubectl(lab, damage)
    found = outcomes(lab, *checks, code=6)
    assert {check: found[check]["outcome"] for check in checks} == dict.fromkeys(checks, "fail")
    assert says in found[checks[0]]["reason"]
    assert repair in planned(lab)
    lab.gpuctl("manage", "--yes")
    assert planned(lab) == []
    found = outcomes(lab, *checks, code=0)
    assert {check: found[check]["outcome"] for check in checks} == dict.fromkeys(checks, "pass")


def test_a_class_that_nobody_asked_for_is_named(lab: Lab) -> None:
    copied = "sed 's/name: local-disk/name: local-path/' | k3s kubectl apply -f -"
    kubectl(lab, f"get storageclass local-disk -o yaml | {copied}")
    assert "local-path: not of the spec" in outcomes(lab, "CLU-14", code=6)["CLU-14"]["reason"]
    kubectl(lab, "delete storageclass local-path")


def test_volumes_of_a_silent_server_are_named(lab: Lab) -> None:
    lab.call("nfs", gone=True)
    found = outcomes(lab, "CLU-15", "CLU-16", code=6)
    lab.call("nfs", gone=False)
    assert "nfs-client: " in found["CLU-15"]["reason"]
    assert "fast-scratch, local-disk" in found["CLU-15"]["measured"]
    assert found["CLU-16"]["outcome"] == "unknown"


def test_a_share_that_changes_what_was_written_is_named(lab: Lab) -> None:
    def spoil() -> None:
        for folder, _, files in os.walk(lab.instance.root / "nfs/exports"):
            blob = Path(folder, "blob")
            with suppress(FileNotFoundError):
                # who wrote it has taken its sum by then, who reads it has not been started
                if "blob" in files and time.time() - blob.stat().st_mtime > 0.5:
                    with blob.open("ab") as stream:
                        stream.write(b"x")

    with meanwhile(0.2, spoil):
        found = outcomes(lab, "CLU-16", code=6)
    assert "reads something else than was written" in found["CLU-16"]["reason"]


def test_what_volumes_hang_on_stays(lab: Lab) -> None:
    kubectl(lab, f"apply -f - <<'EOF'{CLAIM}EOF")
    kubectl(lab, "wait --for=jsonpath={.status.phase}=Bound pvc/thesis --timeout=30s")
    before = kubectl(lab, "get pvc,pv,storageclass -A -o name")
    lab.edit(NFS, "")
    said = refusal(lab)
    assert "refused: the storage class nfs-client would go, but 1 volume hangs on it" in said
    assert "default/thesis" in said
    lab.edit("storage:\n", f"storage:\n{NFS.replace('/export}', '/export, reclaim: Retain}')}")
    assert "nfs-client would become another one (reclaimPolicy Delete -> Retain)" in refusal(lab)
    lab.edit(", reclaim: Retain}", ", provisioner: subdir}")
    assert "would become another one" in refusal(lab)
    assert kubectl(lab, "get pvc,pv,storageclass -A -o name") == before
    lab.edit(", provisioner: subdir}", "}")
    kubectl(lab, "delete pvc thesis")
    assert planned(lab) == []


def test_a_class_without_volumes_may_change(lab: Lab) -> None:
    lab.edit("path: /export}", "path: /export, reclaim: Retain}")
    lab.gpuctl("manage", "--yes")
    assert kubectl(lab, "get storageclass nfs-client -o 'jsonpath={.reclaimPolicy}'") == "Retain"
    assert planned(lab) == []
    # what verify makes of such a class goes all the same
    assert outcomes(lab, "CLU-16", code=0)["CLU-16"]["outcome"] == "pass"
    assert kubectl(lab, "get pv -o name") == ""


def test_a_first_password_that_works_again_is_named_and_rotated(lab: Lab) -> None:
    # a run that was killed between login and logout leaves a session, which ends by itself
    sessions = kubectl(lab, "get tokens.management.cattle.io -o name")
    authority = lab.folder / "ca.pem"
    path = "-n cert-manager get secret gpuctl-ca -o 'jsonpath={.data.tls\\.crt}'"
    authority.write_bytes(base64.b64decode(kubectl(lab, path)))
    command = [sys.executable, "-c", PUT_BACK, str(authority), str(lab.workspace / "secrets")]
    subprocess.run(["nsenter", f"--net=/run/netns/{lab.instance.lan}", *command], check=True, timeout=60)
    found = outcomes(lab, "SEC-03", code=6)["SEC-03"]
    assert found["reason"].startswith("admin still logs in with the bootstrap password")
    assert planned(lab) == ["update rancher/rancher.example"]
    lab.gpuctl("manage", "--yes")
    assert outcomes(lab, "SEC-03", code=0)["SEC-03"]["outcome"] == "pass"
    assert kubectl(lab, "get tokens.management.cattle.io -o name") == sessions


# versions of Rancher's chart that only the test's mirror has: the lab's with a part replaced, and what is said of each
BROKEN = {
    "2.14.1": (
        "values.schema.json",
        '"replicas": {"type": "integer"',
        '"replicas": {"type": "string"',
        "does not know these",
    ),
    "2.14.2": ("templates/all.yaml", "image: rancher/rancher:", "image: rancher/none:", "does not start: .*Image"),
    "2.14.3": ("templates/all.yaml", "args: [", "args: [--no-such-flag, ", "does not start: CrashLoop"),
}


def mirror(lab: Lab) -> None:
    """A mirror of charts beside the spec: the lab's, and the broken ones."""
    site = yaml.safe_load(lab.site.read_text(encoding="utf-8"))
    folder = lab.folder / "charts"
    shutil.copytree(site["mirrors"]["charts"], folder)
    chart = ROOT / "lab/charts/rancher"
    for version, (file, old, new, _) in BROKEN.items():
        with tarfile.open(folder / f"rancher-{version}.tgz", "w:gz") as archive:
            for path in sorted(path for path in chart.rglob("*") if path.is_file()):
                name = str(path.relative_to(chart))
                text = path.read_text(encoding="utf-8")
                if name == file:
                    assert old in text
                    text = text.replace(old, new)
                if name == "Chart.yaml":
                    text = text.replace("\nversion: 2.14.0", f"\nversion: {version}")
                member = tarfile.TarInfo(f"rancher/{name}")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
    site["mirrors"]["charts"] = str(folder)
    (lab.folder / "site.yaml").write_text(yaml.safe_dump(site), encoding="utf-8")


def test_a_bad_chart_is_named_and_the_right_one_brings_rancher_back(lab: Lab) -> None:
    mirror(lab)
    lab.edit("replicas: 1}", "replicas: 1, version: 2.14.9}")
    assert "the chart rancher-2.14.9.tgz is not in the mirror" in lab.gpuctl("manage", "--yes", code=1).stderr
    before = "2.14.9"
    for version, (*_, words) in BROKEN.items():
        lab.edit(before, version)
        said = lab.gpuctl("manage", "--yes", "--patience", "0.1", code=1).stderr
        assert re.search(words, said), said
        before = version
    assert "log: " in said  # what the container says of itself
    lab.edit(f", version: {before}", "")
    package = lab.workspace / "helm/charts/rancher-2.14.0.tgz"
    package.write_bytes(package.read_bytes() + b"\0")
    said = lab.gpuctl("manage", "--yes", code=1).stderr
    assert "the chart rancher-2.14.0.tgz is not the one that was used before" in said
    lab.gpuctl("manage", "--yes")
    assert planned(lab) == []


CUT_OFF = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cut-off}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""
FULL = """
apiVersion: v1
kind: ResourceQuota
metadata: {name: full}
spec: {hard: {count/secrets: 0}}
"""


@pytest.mark.parametrize(
    ("namespace", "obstacle", "damage", "what"),
    [
        ("nginx-ingress", CUT_OFF, "", ("the ingress has no address: 10.0.0.101 takes no connections",)),
        ("cattle-system", CUT_OFF, "", ("Rancher is silent", "https://rancher.example at 10.0.0.101")),
        (
            "cattle-system",
            FULL,
            "-n cattle-system delete secret tls-rancher-ingress",
            ("the certificate tls-rancher-ingress was not issued", "Issuing certificate as Secret does not exist"),
        ),
    ],
)
def test_what_does_not_come_is_named_when_its_time_is_over(
    lab: Lab, namespace: str, obstacle: str, damage: str, what: tuple[str, ...]
) -> None:
    kubectl(lab, f"-n {namespace} apply -f - <<'EOF'{obstacle}EOF")
    if damage:
        kubectl(lab, damage)
    said = lab.gpuctl("manage", "--yes", "--patience", "0.05", code=1).stderr
    kubectl(lab, f"-n {namespace} delete -f - <<'EOF'{obstacle}EOF")
    assert [words for words in what if words not in said] == [], said
    lab.gpuctl("manage", "--yes")
    assert planned(lab) == []


def test_rancher_and_what_only_it_needed_go(lab: Lab) -> None:
    lab.edit(RANCHER, "")
    # as Rancher leaves them on every namespace
    finalizers = '{"metadata":{"finalizers":["controller.cattle.io/namespace-auth"]}}'
    kubectl(lab, f"patch namespace default --type=merge -p '{finalizers}'")
    assert planned(lab) == [
        "remove helm/rancher",
        "remove rancher/finalizers",
        "remove helm/issuers",
        "remove helm/cert-manager",
    ]
    lab.gpuctl("manage", "--yes")
    assert planned(lab) == []
    assert kubectl(lab, "get namespace default -o 'jsonpath={.metadata.finalizers}'") == ""
    assert "gpuctl-ca" in kubectl(lab, "-n cert-manager get secrets -o name")
    assert outcomes(lab, "management", code=0)["MGT-01"]["outcome"] == "skipped"
