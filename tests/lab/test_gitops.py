"""Fleet follows a repository on the lab: bundles come, change, roll back, change owners; refusals. In order."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT, SMALL, Lab, _lab, eventually, kubectl, outcomes

GITOPS = """\
management:
  rancher: {hostname: rancher.example}
  gitops:
    repo: https://git.example/platform/clusters.git
    path: clusters/small
    polling: 2s
    credentials: {username: gpuctl, password: env:GIT_PASSWORD}
    bundles: [monitoring, tests]
"""
BUNDLES = "bundles: [monitoring, tests]"
TAINT = "\n      taints: [dedicated=gpu:NoSchedule]"
CLAIM = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  storageClassName: none
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
"""


SPEC = (
    SMALL.replace("api_vip: 10.0.0.100}", "api_vip: 10.0.0.100, ingress_vip: 10.0.0.101}").replace(
        "v1.35.4+k3s1}", "v1.35.4+k3s1, ingress: nginx}"
    )
    + GITOPS
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from _lab("tgitops", SPEC, tmp_path_factory.mktemp("gitops"))


def run(lab: Lab, *command: str, code: int | None = 0, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Inside the lab's network, as gpuctl is run there."""
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{lab.instance.lan}", *command],
        env={**lab.environment(), "PYTHONPATH": str(ROOT)}, cwd=folder,
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def phase(lab: Lab, word: str, code: int = 0) -> str:
    """What the part of the phase says; plan exits with 3 when there is something to do."""
    arguments = [str(ROOT / "tests/lab/gitops_phase.py"), word, str(lab.spec), "--site", str(lab.site)]
    done = run(lab, sys.executable, *arguments, code=code)
    return done.stdout + done.stderr


class Person:
    """Somebody with a clone of the repository."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.clone = lab, lab.folder / "clone"
        password = lab.instance.git_password.read_text(encoding="utf-8").strip()
        self.address = f"http://alice:{password}@192.0.2.10:8081/clusters.git"
        if not self.clone.exists():
            self.git("clone", "-q", self.address, str(self.clone), folder=lab.folder)

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        identity = ["-c", "user.name=alice", "-c", "user.email=alice@example.com"]
        return run(self.lab, "git", *identity, *arguments, folder=folder or self.clone).stdout.strip()

    def pull(self) -> str:
        """The remote's head, checked out."""
        self.git("fetch", "-q", "origin")
        self.git("reset", "-q", "--hard", "origin/main")
        return self.git("rev-parse", "HEAD")

    def commits(self) -> int:
        self.pull()
        return int(self.git("rev-list", "--count", "HEAD"))

    def push(self, message: str, *options: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        self.git("push", "-q", *options, "origin", "HEAD:main")


TOLERATIONS = "-n gpuctl-tests get deployment smoke -o 'jsonpath={.spec.template.spec.tolerations[*].key}'"
REPLICAS = "-n gpuctl-tests get deployment smoke -o 'jsonpath={.spec.replicas}/{.status.readyReplicas}'"
OURS = "'owner=helm,status=deployed,name in (monitoring,tests)'"
RELEASES = f"get secrets -A -l {OURS} -o 'jsonpath={{.items[*].metadata.labels.name}}'"


SECRET = "-n fleet-local get secret gpuctl-git -o 'jsonpath={.metadata.resourceVersion}'"


def test_fleet_comes_with_rancher_and_brings_what_was_committed(lab: Lab) -> None:
    lab.gpuctl("provision", "--yes")
    lab.gpuctl("bootstrap", "--yes")
    said = lab.gpuctl("manage", "--yes").stdout
    assert "monitoring new, tests new" in said
    assert "gitrepo/gpuctl  in sync with the repository" in said
    assert kubectl(lab, REPLICAS) == "1/1"
    assert {check["outcome"] for check in outcomes(lab, "MGT-03", "MGT-04", code=0).values()} == {"pass"}
    secret = kubectl(lab, SECRET)
    assert "nothing to change" in lab.gpuctl("manage", "--yes").stdout
    assert phase(lab, "plan") == ""
    assert (Person(lab).commits(), kubectl(lab, SECRET)) == (1, secret)


def test_drift_is_corrected_by_fleet(lab: Lab) -> None:
    kubectl(lab, "-n gpuctl-tests scale deployment smoke --replicas=0")
    eventually(lab, REPLICAS, "1/1")


def test_a_bundle_that_the_spec_drops_goes_and_comes_back(lab: Lab) -> None:
    lab.edit(BUNDLES, "bundles: [tests]")
    assert "monitoring removed  Fleet uninstalls monitoring" in phase(lab, "plan", code=3)
    phase(lab, "apply")
    eventually(lab, RELEASES, "tests")
    lab.edit("bundles: [tests]", BUNDLES)
    phase(lab, "apply")
    assert kubectl(lab, RELEASES).split() == ["monitoring", "tests"]
    assert Person(lab).commits() == 3


def test_a_revert_rolls_back_and_is_not_fought(lab: Lab) -> None:
    lab.edit("scratch: 50GiB", f"scratch: 50GiB{TAINT}")
    phase(lab, "apply")
    assert kubectl(lab, TOLERATIONS) == "dedicated"
    person = Person(lab)
    person.pull()
    person.git("revert", "--no-edit", "HEAD")
    person.git("push", "-q", "origin", "HEAD:main")
    eventually(lab, TOLERATIONS, "")
    for word in ("plan", "apply"):
        said = phase(lab, word)
        assert "bundle tests is not as the spec has it since commit" in said
        assert "Revert" in said
        assert "by alice" in said
    assert kubectl(lab, TOLERATIONS) == ""
    done = lab.gpuctl("gitops", "push", "--yes")
    assert "+- effect: NoSchedule" in done.stdout
    assert kubectl(lab, TOLERATIONS) == "dedicated"
    assert phase(lab, "plan") == ""


def test_a_silent_remote_and_one_that_refuses(lab: Lab) -> None:
    lab.call("git", down=True)
    assert "the Git server does not answer" in phase(lab, "plan", code=1)
    assert outcomes(lab, "MGT-03", "MGT-04", code=7)["MGT-03"]["outcome"] == "unknown"
    lab.call("git", refuse="main is protected")
    lab.edit(TAINT, "")
    said = phase(lab, "apply", code=1)
    assert "the Git server refuses the push" in said
    assert "main is protected" in said
    assert kubectl(lab, TOLERATIONS) == "dedicated"
    lab.call("git")
    phase(lab, "apply")
    assert kubectl(lab, TOLERATIONS) == ""


def test_rewritten_history_is_refused_until_the_operator_has_seen_it(lab: Lab) -> None:
    person = Person(lab)
    person.pull()
    person.git("reset", "-q", "--hard", "HEAD~1")
    person.git("push", "-q", "--force", "origin", "HEAD:main")
    said = phase(lab, "plan", code=1)
    assert "history was rewritten" in said
    lab.gpuctl("gitops", "push", "--yes")
    assert phase(lab, "plan") == ""


def test_wrong_credentials_stall_fleet_and_are_put_right(lab: Lab) -> None:
    wrong = """'{"data": {"password": "d3Jvbmc="}}'"""
    kubectl(lab, f"-n fleet-local patch secret gpuctl-git --type merge -p {wrong}")
    eventually(
        lab,
        "-n fleet-local get gitrepo gpuctl -o 'jsonpath={.status.conditions[?(@.type==\"Stalled\")].status}'",
        "True",
    )
    assert (
        "the gitjob is stalled: authentication required"
        in outcomes(lab, "MGT-03", "MGT-04", code=6)["MGT-03"]["reason"]
    )
    assert "update secret/gpuctl-git" in phase(lab, "plan", code=3)
    phase(lab, "apply")
    assert outcomes(lab, "MGT-03", "MGT-04", code=0)["MGT-03"]["outcome"] == "pass"


def test_an_idle_fleet_is_named_before_the_deadline(lab: Lab) -> None:
    kubectl(lab, "-n cattle-fleet-system scale deployment fleet-controller --replicas=0")
    eventually(lab, "-n cattle-fleet-system get pods -o name", "")
    lab.edit("scratch: 50GiB", f"scratch: 50GiB{TAINT}")
    started = time.monotonic()
    said = phase(lab, "apply", code=1)
    assert time.monotonic() - started < 120
    assert "Fleet does not bring the repository into the cluster" in said
    assert "Deployment cattle-fleet-system/fleet-controller: 0 of 1 pods ready" in said
    assert "fleet-controller: 0 of 1 pods ready" in outcomes(lab, "MGT-03", "MGT-04", code=6)["MGT-03"]["reason"]
    kubectl(lab, "-n cattle-fleet-system scale deployment fleet-controller --replicas=1")
    phase(lab, "apply")
    assert kubectl(lab, TOLERATIONS) == "dedicated"


def test_a_bundle_of_somebody_else_with_our_name_is_refused(lab: Lab) -> None:
    lab.edit(BUNDLES, "bundles: [tests]")
    phase(lab, "apply")
    name = "gpuctl-clusters-small-monitoring"
    metadata = {"name": name, "namespace": "fleet-local", "labels": {"fleet.cattle.io/repo-name": "theirs"}}
    stranger = {"apiVersion": "fleet.cattle.io/v1alpha1", "kind": "Bundle", "metadata": metadata, "spec": {}}
    lab.inside(9011, f"k3s kubectl create -f - <<'END'\n{json.dumps(stranger)}\nEND")
    lab.edit("bundles: [tests]", BUNDLES)
    said = phase(lab, "plan", code=1)
    assert f"there is another bundle of the name {name}" in said
    assert "it comes from theirs" in said
    kubectl(lab, f"-n fleet-local delete bundle {name}")
    phase(lab, "apply")


def test_a_bundle_that_cannot_be_installed_is_named_with_helms_words(lab: Lab) -> None:
    person = Person(lab)
    person.pull()
    template = person.clone / "clusters/small/tests/chart/templates/all.yaml"
    template.write_text(template.read_text(encoding="utf-8") + '{{ fail "no such luck" }}\n', encoding="utf-8")
    person.push("a mistake")
    eventually(
        lab, "-n fleet-local get bundle gpuctl-clusters-small-tests -o 'jsonpath={.status.display.state}'", "ErrApplied"
    )
    reason = outcomes(lab, "MGT-03", "MGT-04", code=6)["MGT-04"]["reason"]
    assert "bundle gpuctl-clusters-small-tests: ErrApplied" in reason
    assert "no such luck" in reason
    lab.gpuctl("gitops", "push", "--yes")
    assert {check["outcome"] for check in outcomes(lab, "MGT-03", "MGT-04", code=0).values()} == {"pass"}


def test_what_holds_data_is_not_removed(lab: Lab) -> None:
    person = Person(lab)
    person.pull()
    (person.clone / "clusters/small/tests/chart/templates/claim.yaml").write_text(CLAIM, encoding="utf-8")
    person.push("some data")
    eventually(lab, "-n gpuctl-tests get pvc -o name", "persistentvolumeclaim/data")
    lab.edit(BUNDLES, "bundles: [monitoring]")
    assert "changed in the repository by others, and is to be changed by the spec" in phase(lab, "plan", code=1)
    said = lab.gpuctl("gitops", "push", "--yes", code=1).stderr
    assert "this change of the bundle tests would delete data" in said
    assert "PersistentVolumeClaim data" in said
    assert kubectl(lab, "-n gpuctl-tests get pvc -o name") == "persistentvolumeclaim/data"
    lab.edit("bundles: [monitoring]", BUNDLES)
    # also when only the claim would go
    assert "would delete data" in lab.gpuctl("gitops", "push", "--yes", code=1).stderr
    person.pull()
    person.git("revert", "--no-edit", "HEAD")
    person.git("push", "-q", "origin", "HEAD:main")
    eventually(lab, "-n gpuctl-tests get pvc -o name", "")
    assert phase(lab, "plan") == ""


CLASS = "get storageclass local-disk -o 'jsonpath={.metadata.uid}'"
OWNER = (
    "-n local-storage get secrets -l name=storage-classes -o 'jsonpath={.items[*].metadata.labels.gpuctl\\.io/cluster}'"
)


def test_a_release_changes_its_owner_and_back_without_going(lab: Lab) -> None:
    before, owner = kubectl(lab, CLASS), kubectl(lab, OWNER)
    assert owner
    lab.edit(BUNDLES, "bundles: [monitoring, tests, storageclasses]")
    said = phase(lab, "plan", code=1)
    assert "the release storage-classes would get two owners" in said
    assert "gpuctl gitops adopt storageclasses" in said
    done = lab.gpuctl("gitops", "adopt", "storageclasses", "--yes").stdout
    assert "its owner: gpuctl -> Fleet's bundle gpuctl-clusters-small-storageclasses" in done
    assert "nothing to change" in lab.gpuctl("manage", "--yes").stdout
    assert "Nothing to do" in lab.gpuctl("gitops", "adopt", "storageclasses", "--yes").stdout
    assert (kubectl(lab, CLASS), kubectl(lab, OWNER)) == (before, "")
    lab.edit("bundles: [monitoring, tests, storageclasses]", BUNDLES)
    assert "still belongs to Fleet" in phase(lab, "plan", code=1)
    said = lab.gpuctl("manage", "--yes", code=1).stderr
    assert "belongs to Fleet's bundle gpuctl-clusters-small-storageclasses" in said
    lab.gpuctl("gitops", "adopt", "storageclasses", "--yes")
    assert "nothing to change" in lab.gpuctl("manage", "--yes").stdout
    assert kubectl(lab, CLASS) == before
    assert owner in kubectl(lab, OWNER)


def test_a_gift_that_fleet_never_took_is_taken_back(lab: Lab) -> None:
    lab.call("git", refuse="main is protected")
    lab.edit(BUNDLES, "bundles: [monitoring, tests, storageclasses]")
    assert "main is protected" in lab.gpuctl("gitops", "adopt", "storageclasses", "--yes", code=1).stderr
    lab.call("git")
    lab.edit("bundles: [monitoring, tests, storageclasses]", BUNDLES)
    assert "was given to Fleet's bundle gpuctl-clusters" in lab.gpuctl("manage", "--yes", code=1).stderr
    assert "is gpuctl's again" in lab.gpuctl("gitops", "adopt", "storageclasses", "--yes").stdout
    assert "nothing to change" in lab.gpuctl("manage", "--yes").stdout


def test_with_its_last_bundle_the_gitrepo_goes_and_comes_back_with_the_next(lab: Lab) -> None:
    """Fleet takes a commit with nothing in it for an error, and would keep what it brought."""
    lab.edit(BUNDLES, "bundles: []")
    plan = phase(lab, "plan", code=3)
    assert "Fleet uninstalls monitoring, tests" in plan
    assert "nothing is left below clusters/small that it could follow" in plan
    lab.gpuctl("manage", "--yes")
    assert phase(lab, "plan") == ""
    assert kubectl(lab, RELEASES) == ""
    assert outcomes(lab, "MGT-03", code=0)["MGT-03"]["reason"] == "the spec gives Fleet no bundles"
    lab.edit("bundles: []", BUNDLES)
    phase(lab, "apply")
    assert kubectl(lab, RELEASES).split() == ["monitoring", "tests"]


def test_without_gitops_everything_of_fleets_goes(lab: Lab) -> None:
    text = lab.spec.read_text(encoding="utf-8")
    lab.spec.write_text(text[: text.index("  gitops:")], encoding="utf-8")
    assert "remove gitrepo/gpuctl" in phase(lab, "plan", code=3)
    lab.gpuctl("manage", "--yes")
    assert phase(lab, "plan") == ""
    assert kubectl(lab, "-n fleet-local get gitrepos,bundles,secrets -o name") == ""
    assert kubectl(lab, RELEASES) == ""
    assert kubectl(lab, "-n gpuctl-tests get all -o name") == ""
