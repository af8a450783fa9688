"""Labs for tests: real hosts and a real Kubernetes; only in the network namespaces that the lab makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from gpuctl.spec.load import load
from gpuctl.verify.checks import ALL
from lab import client, instance
from lab.paths import Instance
from lab.shell import LabError

ROOT = Path(__file__).parents[2]
# one server and one worker with two cards: enough for what goes wrong with a single host
SMALL = """\
version: 1
name: small
site:
  proxmox:
    endpoint: https://pve.example:8006
    token: env:PROXMOX_VE_API_TOKEN
    node: pve
    storage: {os: local-lvm, scratch: nvme, images: local}
image:
  os: ubuntu-24.04
  url: https://cloud-images.ubuntu.com/releases/noble/release-20251026/ubuntu-24.04-server-cloudimg-amd64.img
  checksum: sha256:0000000000000000000000000000000000000000000000000000000000000000
network: {cidr: 10.0.0.0/24, gateway: 10.0.0.1, api_vip: 10.0.0.100}
nodes:
  control_plane: {count: 1, addresses: 10.0.0.11, cpus: 4, memory: 16GiB, disk: 40GiB}
  pools:
    - name: wk
      count: 1
      addresses: 10.0.0.21
      cpus: 8
      memory: 32GiB
      disk: 40GiB
      scratch: 50GiB
      gpus: {model: a100-pcie-80gb, count: 2}
kubernetes: {version: v1.35.4+k3s1}
storage: {scratch: {class: fast-scratch}}
"""


HUB_PASSWORD = "anybody-may-know-this"
# the same with everything that runs on it: ingress, NFS, certificates, Rancher, notebooks
FULL_SMALL = (
    SMALL.replace("api_vip: 10.0.0.100}", "api_vip: 10.0.0.100, ingress_vip: 10.0.0.101}")
    .replace("v1.35.4+k3s1}", "v1.35.4+k3s1, ingress: nginx}")
    .replace("storage: {scratch:", "storage: {nfs: {server: 10.0.0.5, path: /export}, scratch:")
    + """\
management:
  rancher: {hostname: rancher.example, replicas: 1}
jupyterhub:
  hostname: hub.example
  auth: {kind: dummy, i_know_that_anybody_can_log_in: true, allow_all: true, admins: [root], password: env:HUB_PASSWORD}
  profiles:
    - {name: cpu, cpus: 1, memory: 2GiB}
    - {name: one, gpus: 1, cpus: 2, memory: 4GiB}
    - {name: two, gpus: 2, cpus: 2, memory: 4GiB}
  home: {size: 1GiB}
  scratch: {size: 2GiB}
  quota: {notebooks: 4, gpus: 2}
"""
)


@dataclass(frozen=True)
class Lab:
    """A lab, a spec in a folder of its own, and gpuctl inside the lab's network."""

    instance: Instance
    folder: Path
    # more environment for gpuctl
    other: dict[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> Path:
        return self.folder / "cluster.yaml"

    @property
    def site(self) -> Path:
        """The lab's site file, or the test's own version of it beside the spec."""
        own = self.folder / "site.yaml"
        return own if own.exists() else self.instance.site_file

    @property
    def workspace(self) -> Path:
        (found,) = (path for path in (self.folder / ".gpuctl").iterdir() if path.is_dir())
        return found

    @property
    def counts(self) -> dict[str, int]:
        """What verify's summary says when everything that this spec promises is true."""
        resolved = load(self.spec, self.site).resolved
        assert resolved
        skipped = sum(bool(check.applies(resolved)) for check in ALL)
        return {"pass": len(ALL) - skipped, "fail": 0, "unknown": 0, "skipped": skipped}

    @property
    def proven(self) -> str:
        """The same as the last line of the report's table."""
        said = " . ".join(f"{name} {count}" for name, count in self.counts.items() if count)
        return f"{said} of {len(ALL)} checks"

    def edit(self, old: str, new: str) -> None:
        """Change the spec."""
        text = self.spec.read_text(encoding="utf-8")
        assert old in text
        self.spec.write_text(text.replace(old, new), encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        return [
            "nsenter",
            f"--net=/run/netns/{self.instance.lan}",
            sys.executable,
            "-m",
            "gpuctl",
            *arguments,
            str(self.spec),
            "--site",
            str(self.site),
        ]

    def environment(self) -> dict[str, str]:
        # never the kubeconfig of whoever runs the tests
        kubeconfig = str(self.folder / "operators-kubeconfig")
        return {
            **instance.environment(self.instance),
            "KUBECONFIG": kubeconfig,
            "HUB_PASSWORD": HUB_PASSWORD,
            **self.other,
        }

    def gpuctl(self, *arguments: str, seconds: float = 540, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; ``code`` None takes any exit code."""
        done = subprocess.run(
            self.command(*arguments), env=self.environment(), capture_output=True, text=True, timeout=seconds,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "Traceback" not in done.stdout + done.stderr
        if code is not None:
            assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def interrupted(self, *arguments: str, at: str, number: signal.Signals, seconds: float = 400) -> int:
        """Run until a line of the output contains ``at``, send the signal to gpuctl alone; its exit code."""
        process = subprocess.Popen(
            self.command(*arguments), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdout
        seen = []
        deadline = time.monotonic() + seconds
        try:
            for line in process.stdout:
                seen.append(line)
                if at in line:
                    break
                assert time.monotonic() < deadline, "".join(seen)
            else:
                raise AssertionError(f"{at!r} was never said:\n{''.join(seen)}")
            os.kill(process.pid, number)
            process.communicate(timeout=seconds)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(30)
        return process.returncode

    def plan(self, phase: str, code: int) -> str:
        """What the plan of one phase says; 3 is the code of pending changes, 0 of none."""
        return self.gpuctl("plan", "--phase", phase, "--detailed-exitcode", code=code).stdout

    def call(self, name: str, /, **arguments: Any) -> Any:
        """A call of the lab: faults, and what happens inside hosts."""
        return client.call(self.instance, name, **arguments)

    def inside(self, vmid: int, script: str) -> str:
        """What a script prints inside a host, past SSH."""
        return str(self.call("inside", vmid=vmid, script=script)).strip()

    def mutations(self) -> list[list[str]]:
        """Every request to the Proxmox API that is not a reading one, of the whole life of the lab."""
        return [r for r in self.call("requests") if r[0] != "GET" and not r[1].endswith("/agent/ping")]

    def verify_json(self, code: int | None = 0) -> dict[str, Any]:
        """The report of `gpuctl verify -o json`."""
        answer: dict[str, Any] = json.loads(self.gpuctl("verify", "-o", "json", code=code).stdout)
        return answer


def kubectl(lab: Lab, arguments: str) -> str:
    """What it says on the first server."""
    return lab.inside(9011, f"k3s kubectl {arguments}")


def outcomes(lab: Lab, *only: str, code: int, stress: bool = False) -> dict[str, dict[str, Any]]:
    """What verify says of these checks, by id."""
    words = [word for name in only for word in ("--only", name)] + ["--gpu-stress"] * stress
    done = lab.gpuctl("verify", "-o", "json", *words, code=code)
    return {check["id"]: check for check in json.loads(done.stdout)["checks"]}


def eventually(lab: Lab, arguments: str, wanted: str, seconds: float = 60) -> None:
    """Until kubectl says this."""
    deadline = time.monotonic() + seconds
    while (said := kubectl(lab, arguments)) != wanted:
        assert time.monotonic() < deadline, said
        time.sleep(1)


@contextmanager
def meanwhile(every: float, work: Callable[[], object]) -> Iterator[None]:
    """Does it again and again, that many seconds apart, until the block ends."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def _lab(name: str, text: str, folder: Path) -> Iterator[Lab]:
    # two workers may have one of the same kind
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    lab = Lab(Instance(name + worker), folder)
    lab.spec.write_text(text, encoding="utf-8")
    instance.down(lab.instance)
    instance.up(lab.instance, lab.spec)
    try:
        yield lab
    finally:
        instance.down(lab.instance)
        assert instance.leftovers(lab.instance) == []


@pytest.fixture(scope="module")
def homelab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The example's seven hosts without what runs on them, for the tests of a module, which build on each other."""
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8").partition("management:")[0]
    text = "".join(line for line in text.splitlines(keepends=True) if "nfs:" not in line)
    yield from _lab("thome", text, tmp_path_factory.mktemp("homelab"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One server and one worker."""
    yield from _lab("tsmall", SMALL, tmp_path_factory.mktemp("small"))


class ByLab(LoadScopeScheduling):
    """Who shares a lab runs in one process: no more than two are up at a time, or inotify instances run out."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "full" if "/full/" in module else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByLab:
    return ByLab(config, log)


# what a host has to say for itself when a test has failed
STATE = """
hostname; systemctl --failed --no-legend --plain; systemctl show --property=Id,ActiveState,NRestarts 'k3s*'
journalctl --quiet --output=short --reverse --unit='k3s*' --lines=2000 |
  grep -E 'level=(fatal|error)|: [EF][0-9]{4} |panic: |exited, code=|Failed with' |
  grep -v summary_sys_containers | head -n 12
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    labs = [one for one in getattr(item, "funcargs", {}).values() if isinstance(one, Lab)]
    if report.failed and labs:
        report.sections.append(("state of the lab", _state(labs[0])))
    return report


def _state(lab: Lab) -> str:
    said = [Path("/proc/loadavg").read_text(encoding="utf-8"), *Path("/proc/meminfo").read_text().splitlines()[:3]]
    for host in sorted(path.name for path in (lab.instance.root / "hosts").glob("*")):
        try:
            said.append(lab.inside(int(host), f"{STATE.strip()}; true"))
        except (LabError, OSError) as error:
            said.append(f"{host}: {error}")
    return "\n".join(said)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Lab]:
    """A lab for one test."""
    yield from _lab("tfresh", SMALL, tmp_path)
