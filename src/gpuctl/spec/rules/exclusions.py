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
# where nothing of the host's lies; /run and /tmp are often memory, and empty after a boot
FREE = ("/data", "/export", "/media", "/mnt", "/scratch", "/srv", "/var/lib/gpuctl")
# of an image for notebooks: what is not for volumes
TAKEN = (
    "/bin", "/boot", "/dev", "/etc", "/home/jovyan", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin",
    "/sys", "/tmp", "/usr", "/var",
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


def _folders(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    storage = resolved.storage
    local = storage.local.path
    if not any(_inside(local, folder) for folder in FREE):
        wrong = f"the volumes in {local} would lie among the host's own files, or in memory"
        yield ("storage", "local", "path"), wrong, f"a folder below {', '.join(FREE)}"
    if storage.scratch is None:
        return
    mount = storage.scratch.mount
    if _inside(mount, local) or _inside(local, mount):
        wrong = f"{mount} and {local} lie in each other: one class's volumes would be the other's"
        yield ("storage", "scratch", "mount"), wrong, "a folder beside it, as the defaults are"
    elif not any(_inside(mount, folder) for folder in FREE):
        wrong = f"the scratch disk on {mount} may hide what the host needs there"
        yield ("storage", "scratch", "mount"), wrong, f"a folder below {', '.join(FREE)}"


def _notebook_mount(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if not hub or not hub.scratch:
        return
    mount = hub.scratch.mount
    if hidden := next((folder for folder in TAKEN if _inside(folder, mount) or _inside(mount, folder)), None):
        wrong = f"the scratch volume on {mount} would hide what the notebook has in {hidden}"
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
