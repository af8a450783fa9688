"""Container images made on the spot. What K3s needs to start is a docker-archive tar, as its real air-gap file is one;
the others lie in the site's registry (lab/oci.py)."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAUSE = "docker.io/rancher/mirrored-pause:3.6"
BUSYBOX = "docker.io/rancher/mirrored-library-busybox:1.37.0"
COREDNS = "docker.io/rancher/mirrored-coredns-coredns:1.12.3"
GPU_OPERATOR = "nvcr.io/nvidia/gpu-operator:v26.3.3"
CUDA_SAMPLE = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"
CERT_MANAGER = "v1.21.2"
NFS_PLUGIN = "registry.k8s.io/sig-storage/nfsplugin:v4.13.6"
NFS_SUBDIR = "registry.k8s.io/sig-storage/nfs-subdir-external-provisioner:v4.0.2"
RANCHER = "docker.io/rancher/rancher:v2.14.0"
FLEET = "docker.io/rancher/fleet:v0.14.0"
PAUSE_UPSTREAM = "registry.k8s.io/pause:3.10"
LOCAL_PATH = "docker.io/rancher/local-path-provisioner:v0.0.30"
# the tags of the next two are the lab's own: which ones the official charts of these versions name is unverified
INGRESS = "docker.io/nginx/nginx-ingress:5.4.3"
PROXY = "quay.io/jupyterhub/configurable-http-proxy:5.3.0"
HUB = "quay.io/jupyterhub/k8s-hub:4.4.0"
NOTEBOOK = "quay.io/jupyter/scipy-notebook:2025-10-20"
CREATED = "2026-01-01T00:00:00Z"

APPLETS = [
    "sh",
    "ash",
    "httpd",
    "wget",
    "nc",
    "sleep",
    "cat",
    "ls",
    "hostname",
    "ps",
    "ip",
    "ping",
    "echo",
    "env",
    "mount",
    "nslookup",
    "top",
    "date",
    "id",
    "mkdir",
    "touch",
    "df",
    "free",
    "true",
    "false",
    "test",
    "head",
    "tail",
    "grep",
    "sed",
    "awk",
    "seq",
    "nproc",
    "timeout",
    "sort",
    "uniq",
    "wc",
    "cut",
    "tr",
    "rm",
    "cp",
    "mv",
    "chmod",
    "sha256sum",
    "dd",
    "sync",
    "xargs",
    "printf",
    "kill",
]


@dataclass(frozen=True)
class Image:
    """An image: files by path (with execute permission) and links as its top layer, and its configuration.

    ``below``: layers that lie under it, as tar files; only in the registry.
    """

    reference: str
    files: Mapping[str, bytes]
    links: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    below: tuple[Path, ...] = ()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def layer(image: Image) -> bytes:
    """The image's own layer; same input, same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in image.folders:
            tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755))
        for name, data in image.files.items():
            entry = _entry(name, tarfile.REGTYPE, 0o755)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, target in image.links.items():
            entry = _entry(name, tarfile.SYMTYPE, 0o777)
            entry.linkname = target
            tar.addfile(entry)
    return buffer.getvalue()


def configuration(image: Image, digests: Sequence[str]) -> bytes:
    """The image's configuration over uncompressed layers of these digests."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": list(digests)},
            "history": [{"created": CREATED} for _ in digests],
        }
    ).encode()


def archive(path: Path, images: Iterable[Image]) -> None:
    """Write all images as one docker-archive; same input, same bytes."""
    manifest = []
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:

        def add(name: str, data: bytes) -> None:
            entry = _entry(name, tarfile.REGTYPE, 0o644)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        for image in images:
            data = layer(image)
            digest = hashlib.sha256(data).hexdigest()
            config = configuration(image, [f"sha256:{digest}"])
            name = hashlib.sha256(config).hexdigest()
            add(f"{name}.json", config)
            add(f"{digest}/layer.tar", data)
            manifest.append(
                {"Config": f"{name}.json", "RepoTags": [image.reference], "Layers": [f"{digest}/layer.tar"]}
            )
        add("manifest.json", json.dumps(manifest).encode())


def packaged(pause: bytes, busybox: bytes, coredns: bytes) -> list[Image]:
    """The images of the lab's air-gap file, under the names that K3s uses."""
    passwd = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    return [
        Image(PAUSE, {"pause": pause}, config={"Entrypoint": ["/pause"]}),
        Image(
            BUSYBOX,
            {"bin/busybox": busybox, "etc/passwd": passwd},
            {f"bin/{applet}": "busybox" for applet in APPLETS},
            ("bin", "etc", "tmp", "root", "www"),
            {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        ),
        Image(COREDNS, {"coredns": coredns}, config={"Entrypoint": ["/coredns"]}),
    ]


def nvidia(gpu: bytes, busybox: bytes) -> list[Image]:
    """The operator with all it brings, and the CUDA sample: the lab's one program under their names."""
    links = {f"bin/{applet}": "busybox" for applet in APPLETS}
    path = {"Env": ["PATH=/usr/bin:/bin"]}
    return [
        Image(GPU_OPERATOR, {"gpu": gpu}, config={"Entrypoint": ["/gpu"]}),
        Image(
            CUDA_SAMPLE,
            {"cuda-samples/vectorAdd": gpu, "bin/busybox": busybox},
            links,
            ("bin", "tmp", "usr", "usr/bin"),
            {**path, "Cmd": ["/cuda-samples/vectorAdd"]},
        ),
    ]


def management(program: bytes, fleet: bytes) -> list[Image]:
    """cert-manager, the NFS provisioners and Rancher: the lab's one program under their names.

    ``fleet``: the objects of Fleet's chart as a JSON list, which Rancher brings.
    """

    parts = ("controller", "cainjector", "webhook", "startupapicheck")
    named = {f"quay.io/jetstack/cert-manager-{part}:{CERT_MANAGER}": f"cert-manager-{part}" for part in parts}
    named |= {NFS_PLUGIN: "nfsplugin", NFS_SUBDIR: "nfs-subdir-external-provisioner", RANCHER: "rancher"}
    # equal layers are one layer, for the registry and for the hosts
    links = dict.fromkeys((*named.values(), "csi-provisioner"), "management")
    files = {"management": program}
    own = {RANCHER: {**files, "fleet.json": fleet}}
    return [
        Image(reference, own.get(reference, files), links, config={"Entrypoint": [f"/{name}"]})
        for reference, name in named.items()
    ]


def fleet(program: bytes) -> list[Image]:
    """Fleet's controller and agent in one."""
    return [Image(FLEET, {"fleet": program}, folders=("tmp",), config={"Entrypoint": ["/fleet"]})]


def services(pause: bytes, local_path: bytes, ingress: bytes, layers: Mapping[str, Path]) -> list[Image]:
    """Storage, ingress and JupyterHub. ``layers``: the big ones by name (lab/layers.py)."""
    base, common = layers["base"], layers["common"]
    path = "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin"
    jovyan = ["HOME=/home/jovyan", "NB_USER=jovyan", "NB_UID=1000", "NB_GID=100"]
    hub = {"User": "1000:1000", "WorkingDir": "/srv/jupyterhub", "Env": [path]}
    notebook = {
        "User": "1000:100",
        "WorkingDir": "/home/jovyan",
        "Env": [path, *jovyan],
        "Cmd": ["jupyterhub-singleuser"],
    }
    return [
        Image(PAUSE_UPSTREAM, {"pause": pause}, config={"Entrypoint": ["/pause"]}),
        Image(LOCAL_PATH, {"usr/bin/local-path-provisioner": local_path}, {}, ("usr", "usr/bin"), {"Env": [path]}),
        Image(INGRESS, {"ingress": ingress}, config={"Entrypoint": ["/ingress"], "Env": [path]}, below=(base,)),
        Image(PROXY, {}, config={"Env": [path]}, below=(base, layers["node"])),
        Image(HUB, {}, config=hub, below=(base, common, layers["hub"])),
        Image(NOTEBOOK, {}, config=notebook, below=(base, common, layers["notebook"])),
    ]
