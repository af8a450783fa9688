"""Runs on every host as root (standard library only) and prints one JSON object. It is sent over, never imported."""

import glob
import hashlib
import json
import mmap
import os
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.request

K3S = "/var/lib/rancher/k3s"
PRIVATE = [
    "/etc/rancher/k3s/*",
    "/etc/rancher/node/password",
    K3S + "/server/token",
    K3S + "/server/agent-token",
    K3S + "/server/node-token",
    K3S + "/server/cred/*.kubeconfig",
    K3S + "/agent/*.kubeconfig",
]
# the key of a Secret in the database, then a few fields of numbers, then its value
SECRET = re.compile(rb"/registry/secrets/[\x21-\x7e]+.{0,40}?k8s(:enc:|\x00)", re.DOTALL)


def text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def certificates() -> "dict[str, float]":
    left = {}
    for path in glob.glob(K3S + "/server/tls/**/*.crt", recursive=True) + glob.glob(K3S + "/agent/*.crt"):
        done = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", path], capture_output=True, text=True)
        ends = done.stdout.strip().partition("=")[2]
        # what cannot be read counts as expired
        left[path] = ssl.cert_time_to_seconds(ends) - time.time() if ends else -1.0
    return left


def modes() -> "dict[str, int]":
    return {p: os.stat(p).st_mode & 0o777 for pattern in PRIVATE for p in glob.glob(pattern) if os.path.isfile(p)}


def ask(path: str) -> str:
    """The member's own port for metrics and health, on the loopback interface only (K3s always opens it)."""
    with urllib.request.urlopen("http://127.0.0.1:2381" + path, timeout=5) as answer:
        return str(answer.read().decode())


def etcd() -> "dict[str, object] | None":
    if not os.path.isdir(K3S + "/server/db/etcd"):
        return None
    try:
        metrics, health = ask("/metrics"), json.loads(ask("/health"))["health"] == "true"
    except (OSError, ValueError, KeyError, urllib.error.URLError):
        return None

    def value(name: str) -> float:
        found = re.search(r"^" + name + r"(?:{[^}]*})? (\S+)", metrics, re.M)
        return float(found[1]) if found else 0.0

    own = re.search(r'etcd_server_id{server_id="(\w+)"} 1', metrics)
    return {
        "id": own[1] if own else "",
        "healthy": health,
        "leader": value("etcd_server_is_leader") == 1,
        "has_leader": value("etcd_server_has_leader") == 1,
        "peers": sorted(set(re.findall(r'etcd_network_known_peers{[^}]*Remote="(\w+)"} 1', metrics))),
        "revision": int(value("etcd_debugging_mvcc_current_revision")),
    }


def snapshot() -> "dict[str, object] | None":
    made = [p for p in glob.glob(K3S + "/server/db/snapshots/*") if os.path.isfile(p) and not p.endswith(".part")]
    if not made:
        return None
    path = max(made, key=os.path.getmtime)
    size = os.path.getsize(path)
    intact, encrypted, plain = None, 0, 0
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # etcd puts the sha256 of all before it at the end; the database itself is made of whole sectors
        if size % 512 == 32:
            intact = hashlib.sha256(memoryview(data)[:-32]).digest() == data[-32:]
        for match in SECRET.finditer(data):
            encrypted += match[1] == b":enc:"
            plain += match[1] != b":enc:"
    age = time.time() - os.path.getmtime(path)
    return {
        "name": os.path.basename(path),
        "age": age,
        "intact": intact,
        "encrypted": encrypted,
        "plain": plain,
    }


def main() -> None:
    memory = re.search(r"^MemTotal:\s+(\d+) kB", text("/proc/meminfo"), re.M)
    found = {
        "cpus": len(re.findall(r"^processor\s*:", text("/proc/cpuinfo"), re.M)),
        "memory": int(memory[1]) * 1024 if memory else 0,
        "certificates": certificates(),
        "modes": modes(),
        "etcd": etcd(),
        "snapshot": snapshot(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
