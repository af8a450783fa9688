"""Figures of gpuctl on this machine, all of one run. Every figure is measured here; nothing is compared across runs.

The floor of bootstrap is the same host work by one straightforward shell script per host, over ssh, in parallel, on
the same lab: packages, files, binary with checksum, scratch disk, units, K3s in join order.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpuctl.phases import PHASES
from lab import instance
from lab.paths import Instance

ROOT = Path(__file__).parents[1]
GPUCTL = [sys.executable, "-m", "gpuctl"]
NAMES = [phase.name for phase in PHASES]
REPEATS = 7
MEMORY = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
SSH = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10")


def measured(command: Sequence[str], accepted: Sequence[int] = (0,), **options: Any) -> dict[str, float]:
    """Wall seconds and CPU seconds of the command with all it started; RuntimeError for other exits than these."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL, **options)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in accepted:
        raise RuntimeError(f"{shlex.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    told = [line for line in done.stdout.splitlines() if done.returncode and line.startswith(("fail ", "unknown "))]
    print("".join(f"    {line}\n" for line in told), end="", file=sys.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(wall, 3), "controller_cpu_seconds": round(cpu, 3), "exit": done.returncode}


def start_up() -> dict[str, float]:
    """Median milliseconds."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "gpuctl --help": [*GPUCTL, "--help"],
        "gpuctl validate": [*GPUCTL, "validate", str(ROOT / "examples/homelab.yaml")],
    }
    return {
        name: round(statistics.median(measured(command)["seconds"] for _ in range(REPEATS)) * 1000)
        for name, command in commands.items()
    }


def scale(folder: Path) -> list[dict[str, float]]:
    """validate and render of specs with many nodes; memory is the greatest resident set of one process, in MB."""
    rows = []
    for nodes in (10, 100, 1000):
        spec = folder / f"{nodes}.yaml"
        text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
        last = 256 + nodes - 3 - 1
        for old, new in (
            ("10.0.0.0/24", "10.0.0.0/16"),
            ("host: {memory: 1TiB, gpus: 8} ", "host: {} "),
            ("count: 4\n", f"count: {nodes - 3}\n"),
            ("10.0.0.21-10.0.0.24", f"10.0.1.0-10.0.{last // 256}.{last % 256}"),
            ("{version: v1.35.4+k3s1,", "{version: v1.35.4+k3s1, pod_cidr: 10.128.0.0/12,"),
        ):
            if old not in text:
                raise RuntimeError(f"the example has changed: {old!r}")
            text = text.replace(old, new)
        spec.write_text(text, encoding="utf-8")
        row: dict[str, float] = {"nodes": nodes}
        for name, arguments in (
            ("validate", ["validate", str(spec)]),
            ("render", ["render", str(spec), "--out", str(folder / str(nodes))]),
        ):
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", MEMORY, *GPUCTL, *arguments], capture_output=True, text=True, timeout=300
            )
            row[f"{name}_seconds"] = round(time.monotonic() - started, 2)
            exit_code, kib = done.stdout.split()
            if exit_code != "0":
                raise RuntimeError(f"{name} of {nodes} nodes: exit {exit_code}\n{done.stderr}")
            row[f"{name}_mb"] = round(int(kib) / 1024)
        rows.append(row)
    return rows


class Rehearsal:
    """The example on a lab of its own."""

    def __init__(self, folder: Path) -> None:
        self.lab = Instance("bench")
        self.folder = folder
        self.spec = folder / "cluster.yaml"
        self.spec.write_text((ROOT / "examples/homelab.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        self.inside = ["nsenter", f"--net=/run/netns/{self.lab.lan}"]

    def gpuctl(self, *arguments: str) -> dict[str, float]:
        command = [*self.inside, *GPUCTL, *arguments, str(self.spec), "--site", str(self.lab.site_file)]
        # a check that fails is no reason to stop measuring; the exit stands beside the seconds
        accepted = (0, 6) if arguments[0] == "verify" else (0,)
        figures = measured(command, accepted, env=instance.environment(self.lab))
        # on the lab the hosts' work runs on the same processors; the controller's own share is what it computes
        figures["share_waiting_for_hosts"] = round(1 - figures["controller_cpu_seconds"] / figures["seconds"], 3)
        print(f"    {arguments[0]:<10} {figures['seconds']:.1f} s", file=sys.stderr)
        return figures

    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        print("==> bench: lab", file=sys.stderr)
        instance.down(self.lab)
        started = time.monotonic()
        instance.up(self.lab, self.spec)
        found["lab up"] = {"seconds": round(time.monotonic() - started, 2)}
        try:
            first = {name: self.gpuctl(name, "--yes") for name in NAMES}
            verify = self.gpuctl("verify")
            found["first"] = {**first, "verify": verify}
            later = [first[name]["seconds"] for name in NAMES[NAMES.index("bootstrap") + 1 :]]
            found["from K3s ready to JupyterHub verified"] = round(sum(later) + verify["seconds"], 1)
            found["verify --quick"] = self.gpuctl("verify", "--quick")
            found["plan, nothing to change"] = self.gpuctl("plan", "--detailed-exitcode")
            again = {name: self.gpuctl(name, "--yes") for name in NAMES}
            found["apply, nothing to change"] = again
            whole = sum(figures["seconds"] for figures in first.values())
            found["no-change share of first"] = round(sum(f["seconds"] for f in again.values()) / whole, 3)
            found["destroy"] = self.gpuctl("destroy", "--confirm", "homelab")
            self.gpuctl("provision", "--yes")
            self.gpuctl("plan")  # leaves the inventory that the floor reads its facts from
            floor = self.floor()
            found["floor of bootstrap"] = {"seconds": floor}
            found["bootstrap / floor"] = round(first["bootstrap"]["seconds"] / floor, 2)
        finally:
            instance.down(self.lab)
        return found

    def floor(self) -> float:
        """Seconds of the shell scripts, from the first connection to the last node being Ready."""
        (workspace,) = (path for path in (self.folder / ".gpuctl").iterdir() if path.is_dir())
        inventory = json.loads((workspace / "ansible/inventory.json").read_text(encoding="utf-8"))
        servers, agents = (inventory[group]["hosts"] for group in ("servers", "agents"))
        secrets = {
            n: (workspace / "secrets" / n.replace("_", "-")).read_text().strip()
            for n in ("server_token", "agent_token")
        }

        def ssh(host: dict[str, Any], script: str) -> str:
            user = ["-i", str(workspace / "secrets/ssh_ed25519"), "-o", f"UserKnownHostsFile={self.folder}/floor_hosts"]
            command = [*self.inside, "ssh", *SSH, *user, f"gpuctl@{host['ansible_host']}", "sudo sh -e"]
            done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise RuntimeError(f"floor on {host['ansible_host']}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")
            return done.stdout

        started = time.monotonic()
        everyone = [*servers.values(), *agents.values()]
        with ThreadPoolExecutor(len(everyone)) as pool:
            list(pool.map(lambda host: ssh(host, prepare(host["gpuctl_prepare"])), everyone))
            secrets["ca_hash"] = ""
            for host in servers.values():
                said = ssh(host, start(host["gpuctl_k3s"], secrets))
                secrets["ca_hash"] = secrets["ca_hash"] or said.strip().splitlines()[-1]
            list(pool.map(lambda host: ssh(host, start(host["gpuctl_k3s"], secrets)), agents.values()))
        seconds = time.monotonic() - started
        print(f"    floor      {seconds:.1f} s", file=sys.stderr)
        return round(seconds, 2)


def prepare(wanted: dict[str, Any]) -> str:
    """A host's preparation as anybody would write it."""
    k3s = wanted["k3s"]
    base = f"{k3s['source']}/{k3s['version'].replace('+', '%2B')}"
    store, images = f"/var/lib/gpuctl/k3s/{k3s['version']}", "/var/lib/rancher/k3s/agent/images"
    lines = ["export DEBIAN_FRONTEND=noninteractive", f"mkdir -p {store} {images} /usr/local/bin"]
    if wanted["apt_source"]:
        lines.append(f"echo {shlex.quote(wanted['apt_source'])} > /etc/apt/sources.list.d/gpuctl.list")
    for file in wanted["files"]:
        path = shlex.quote(file["path"])
        lines.append(
            f"mkdir -p $(dirname {path}); cat > {path} <<'END_OF_FILE'\n{file['content']}\nEND_OF_FILE\n"
            f"chmod {file['mode']} {path}"
        )
    lines += ["apt-get update -qq >/dev/null", f"apt-get install -qq -y {' '.join(wanted['packages'])} >/dev/null 2>&1"]
    lines += [f"sysctl -q -w {key}={value} || true" for key, value in wanted["sysctls"].items()]
    lines += ["swapoff -a || true", "apt-mark hold 'linux-image-*' >/dev/null 2>&1 || true"]
    files = ["k3s", *(["k3s-airgap-images-amd64.tar"] if k3s["want_images"] else [])]
    lines.append(f"cd {store}; curl -sSf -o sums {base}/sha256sum-amd64.txt")
    for name in files:
        lines.append(f"curl -sSf -o {name} {base}/{name}; grep ' {name}$' sums | sha256sum -c --quiet")
    lines += ["chmod 755 k3s", f"ln -sf {store}/k3s /usr/local/bin/k3s"]
    if k3s["want_images"]:
        lines.append(f"mv {store}/k3s-airgap-images-amd64.tar {images}/")
    if scratch := wanted["scratch"]:
        device = shlex.quote(scratch["device"])
        lines.append(f"mkfs.ext4 -q -L {scratch['label']} {device}")
    lines.append("systemctl daemon-reload")
    for unit in wanted["units"]:
        if unit["enabled"]:
            lines.append(f"systemctl enable -q {unit['name']}")
        lines.append(f"systemctl {unit['verb']} {unit['name']} || systemctl start {unit['name']}")
    return "\n".join(lines) + "\n"


def start(wanted: dict[str, Any], secrets: dict[str, str]) -> str:
    """Start K3s and wait until the node is Ready; the last line printed is the hash of the CA."""
    config = wanted["config"]
    for name, value in secrets.items():
        config = config.replace(f"@{name}@", value)
    unit, node = wanted["unit"], wanted["node"]
    kubeconfig = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig"
    return f"""
mkdir -p /etc/rancher/k3s; umask 077
cat > /etc/rancher/k3s/config.yaml <<'END_OF_FILE'
{config}
END_OF_FILE
cat > /etc/systemd/system/{unit} <<'END_OF_FILE'
{wanted["unit_text"]}
END_OF_FILE
systemctl daemon-reload; systemctl enable -q {unit}; systemctl start {unit}
kubectl="k3s kubectl --kubeconfig {kubeconfig}"
until $kubectl get node {node} --no-headers 2>/dev/null | grep -q ' Ready '; do sleep 0.3; done
sed -n 's/^K10\\([0-9a-f]*\\)::.*/\\1/p' /var/lib/rancher/k3s/server/token 2>/dev/null || true
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the lab")
    parser.add_argument("--out", type=Path, default=ROOT / "bench.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuctl-bench-") as name:
        folder = Path(name)
        found: dict[str, Any] = {
            "time": f"{datetime.now(UTC):%FT%TZ}",
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
            "start-up, median ms": start_up(),
            "validate and render": scale(folder),
        }
        if not options.quick:
            found["lab, 7 hosts"] = Rehearsal(folder).run()
    text = json.dumps(found, indent=2)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
