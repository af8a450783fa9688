"""Features that exclude each other: each fine by itself, together one of them does nothing or undoes the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from gpuctl.spec.fit import gpu_nodes
from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule

# names that no public DNS resolves (RFC 6761, 6762, 8375 and what sites use)
PRIVATE = (
    "local", "lan", "internal", "intranet", "private", "corp", "home", "localdomain", "home.arpa", "localhost", "test",
    "invalid", "example",
)  # fmt: skip
# the host's own; /run and /tmp are often memory, and empty after a boot
HOSTS = (
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
    "/usr", "/var/cache", "/var/lib/cloud", "/var/lib/cni", "/var/lib/dpkg", "/var/lib/kubelet", "/var/lib/systemd",
    "/var/log", "/var/run", "/var/tmp",
)  # fmt: skip
K3S = "/var/lib/rancher"
# a notebook's: what its image and the kubelet put there, and where a volume must not even lie
HOME = "/home/jovyan"
IMAGES = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt/conda", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
    "/var/run",
)  # fmt: skip


def _replicas(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for number, pool in enumerate(cluster.nodes.pools):
        if pool.gpus and "replicas" in pool.gpus.model_fields_set:
            sharing = pool.gpus.sharing or cluster.gpu.sharing
            if sharing != "time-slicing":
                loc: Loc = ("nodes", "pools", number, "gpus", "replicas")
                yield loc, f"replicas does nothing with sharing {sharing}", "sharing: time-slicing, or remove it"


def _letsencrypt(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    if resolved.certificates.issuer != "letsencrypt":
        return
    named: list[tuple[Loc, str | None]] = [
        (("management", "rancher", "hostname"), resolved.rancher.hostname if resolved.rancher else None),
        (("jupyterhub", "hostname"), resolved.jupyterhub.hostname if resolved.jupyterhub else None),
    ]
    for loc, name in named:
        if name and ("." not in name or name.endswith(tuple(f".{end}" for end in PRIVATE))):
            wrong = f"Let's Encrypt signs only names of the public DNS, and {name} cannot be one"
            yield loc, wrong, "a public name, or management.certificates.issuer: ca"


def _inside(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(PurePosixPath(folder))


def _conflict(path: str, kept: tuple[str, ...]) -> str:
    """What a folder of volumes does to one of those that are kept free of them; "" when nothing."""
    for folder in kept:
        if _inside(folder, path):
            return f"a volume on {path} would hide what {folder} holds"
        if _inside(path, folder):
            return f"{path} lies in {folder}, which is not for volumes"
    return ""


def _folders(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    storage, way_out = resolved.storage, "a folder of its own, below /mnt, /srv or /var/lib/gpuctl"
    local = storage.local.path
    # K3s' own provisioner keeps its volumes below K3S
    if wrong := _conflict(local, HOSTS):
        yield ("storage", "local", "path"), wrong, way_out
    if storage.scratch is None:
        return
    mount = storage.scratch.mount
    if _inside(mount, local) or _inside(local, mount):
        wrong = f"{mount} and {local} lie in each other: one class's volumes would be the other's"
        yield ("storage", "scratch", "mount"), wrong, "a folder beside it, as the defaults are"
    elif wrong := _conflict(mount, (*HOSTS, K3S)):
        yield ("storage", "scratch", "mount"), wrong, way_out


def _notebook_mount(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if not hub or not hub.scratch:
        return
    mount = hub.scratch.mount
    hides_home = f"a volume on {mount} would hide what {HOME} holds" if _inside(HOME, mount) else ""
    if wrong := hides_home or _conflict(mount, IMAGES):
        yield ("jupyterhub", "scratch", "mount"), wrong, "a folder of its own, like /scratch"


def _bundles(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    given = cluster.management.gitops
    if given is None or "bundles" not in given.model_fields_set:
        return  # the default lists what may come later
    missing = {
        "jupyterhub": None if resolved.jupyterhub else "there is no jupyterhub",
        "gpu-operator": None if gpu_nodes(resolved) else "no pool has GPUs",
    }
    for number, bundle in enumerate(given.bundles):
        if why := missing.get(bundle):
            loc: Loc = ("management", "gitops", "bundles", number)
            yield loc, f"the bundle {bundle} holds nothing: {why}", "add it, or leave the bundle out"


RULES = (
    Rule(
        "EXC-01", "warning", "Replicas belong to time-slicing", "Cards would be shared otherwise than they read.",
        _replicas, "GPU Operator documentation, time-slicing: replicas is a field of sharing.timeSlicing",
    ),
    Rule(
        "EXC-02", "error", "Let's Encrypt signs public names", "The certificate would never be issued.", _letsencrypt,
        'letsencrypt.org/docs/certificates-for-localhost; Boulder: "valid public suffix"; RFC 6761, 6762, 8375',
    ),
    Rule(
        "EXC-03", "error", "Folders of volumes hide nothing", "A mounted disk hides what lies below it.", _folders,
        "mount(8): the previous contents of the directory become invisible",
    ),
    Rule(
        "EXC-04", "error", "A notebook's scratch hides nothing", "A mounted volume hides what lies below it.",
        _notebook_mount, "mount(8): previous contents become invisible; jupyter/docker-stacks: /home/jovyan",
    ),
    Rule(
        "EXC-05", "note", "Bundles have something to install", "Fleet would be given nothing.", _bundles,
        "gpuctl's bundles (render/fleet.py)",
    ),
)  # fmt: skip
