"""Versions that do not fit together or have ended, from the dated table (spec/versions.yaml).

Only what the spec names, and the charts that gpuctl chooses for it: Helm, Terraform and Proxmox are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpuctl.spec.fit import gpu_nodes
from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule
from gpuctl.spec.versions import minor, newest_for, order, table

KUBERNETES: Loc = ("kubernetes", "version")
OPERATOR: Loc = ("gpu", "operator")

# by the names that images have where they are published
NO_DISKS = {
    r"arm64|aarch64|ppc64|s390x|riscv64": "is for another kind of processor",
    r"\.iso$": "is for installing by hand",
    r"\.(tar|tar\.(gz|xz)|tgz|zip|gz|xz|bz2|manifest|json|txt)$|^(sha|md5)\d*sums": "is no disk image",
    r"-nocloud-|-ec2-|-azure-": "is the variant without cloud-init for a server like this",
}


def _release(version: str) -> tuple[int, ...]:
    """For comparing: ``(1, 34, 4)`` of ``v1.34.4+k3s1``."""
    return order(version.removeprefix("v").partition("+")[0])


def _ended(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    release, ended = minor(resolved.kubernetes.version), table()["kubernetes_end_of_life"]
    # what is older than the table ended before it begins
    first = min(ended, key=order)
    if since := ended.get(release) or (f"before {ended[first]}" if order(release) < order(first) else None):
        yield KUBERNETES, f"Kubernetes {release} gets no fixes since {since}", "use a supported release"


def _driver(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    with_images = table()["operator_driver_images"]
    if gpu_nodes(resolved) and cluster.gpu.driver == "operator" and cluster.image.os not in with_images:
        yield (
            ("image", "os"),
            f"the GPU Operator has no driver image for {cluster.image.os}",
            f"use {' or '.join(with_images)}, or gpu.driver: preinstalled",
        )


def _preinstalled(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if not gpu_nodes(resolved) or cluster.gpu.driver != "preinstalled" or resolved.site.mirrors.os_image:
        return
    publisher = next((name for name in table()["images_without_driver"] if f"//{name}/" in cluster.image.url), None)
    if publisher:
        wrong = f"the driver is to be preinstalled, and images of {publisher} hold none"
        yield ("image", "url"), wrong, "an image of your own with the driver, or gpu.driver: operator"


def _named(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    names, url = table()["image_names"], cluster.image.url
    if any(name in url for name in names[cluster.image.os]):
        return
    if other := next((os for os, parts in names.items() if any(f"/{part}/" in url for part in parts)), None):
        yield ("image", "os"), f"os is {cluster.image.os}, and the address is one of {other}", f"os: {other}?"


def _has_containerd_2(kubernetes: str) -> bool:
    since: dict[str, str] = table()["k3s_first_containerd_2"]
    release = minor(kubernetes)
    if release in since:
        return _release(kubernetes) >= _release(since[release])
    return order(release) > max(map(order, since))


def _operator_supports(operator: str) -> list[str] | None:
    known: dict[str, list[str]] = table()["gpu_operator_supports"]
    return known.get(operator.removeprefix("v")) or known.get(minor(operator))


def _operator(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if not gpu_nodes(resolved):
        return
    version, k3s = resolved.gpu.operator, resolved.kubernetes.version
    line, kubernetes, wrong = order(minor(version)), minor(k3s), []
    if line < order(table()["gpu_operator_first_maintained"]):
        wrong.append("gets no fixes any more")
    if line < order(first := table()["gpu_operator_first_containerd_2"]) and _has_containerd_2(k3s):
        wrong.append(f"does not support containerd 2, as in K3s {k3s} ({first} does)")
    known = _operator_supports(version)
    if known and not order(known[0]) <= order(kubernetes) <= order(known[1]):
        wrong.append(f"supports Kubernetes {known[0]} to {known[1]}, not {kubernetes}")
    if wrong:
        fitting = table()["gpu_operator_for"].get(kubernetes)
        if not fitting:
            way_out = "see the GPU Operator's platform support page"
        elif _release(fitting) == _release(version):
            way_out = "a newer Kubernetes: no maintained Operator supports this one"
        else:
            way_out = f"use {fitting}"
        loc = OPERATOR if cluster.gpu.operator else KUBERNETES
        yield loc, f"GPU Operator {version.removeprefix('v')} {', '.join(wrong)}", way_out


def _branch(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    known, date = table()["driver_branch_end_of_life"], str(table()["date"])
    if not gpu_nodes(resolved) or not (branch := _driver_branch(cluster)) or branch > max(map(int, known)):
        return
    ended = known.get(str(branch))
    if ended is None or ended < date:
        since = f" since {ended}" if ended else " any more"
        alive = ", ".join(name for name, end in known.items() if end >= date)
        yield ("gpu", "driver_version"), f"the driver branch {branch} gets no fixes{since}", f"a newer one: {alive}"


def _driver_branch(cluster: Cluster) -> int | None:
    branch = (cluster.gpu.driver_version or "").partition(".")[0]
    return int(branch) if branch.isdecimal() else None


def _disk(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    place, name = ("image", "url"), cluster.image.url.rpartition("/")[2].lower()
    for part, why in NO_DISKS.items():
        if re.search(part, name):
            yield (
                place,
                f"{name} {why}",
                "the cloud image for amd64: ...-server-cloudimg-amd64.img, ...-genericcloud-amd64.qcow2",
            )
            return


def _ingress(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if cluster.kubernetes.ingress == "ingress-nginx":
        wrong = "the community's ingress-nginx is archived since 2026-03 and gets no fixes; gpuctl does not install it"
        yield ("kubernetes", "ingress"), wrong, "traefik (K3s' own) or nginx (F5's controller)"


def _hub(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if hub and order(minor(hub.version)) < order(table()["jupyterhub_first_maintained"]):
        wrong = f"the chart {hub.version} misses security fixes, and its user-scheduler is one of Kubernetes 1.26"
        yield ("jupyterhub", "version"), wrong, f"use {table()['jupyterhub']}, the default"


def _subdir(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    if resolved.storage.nfs and resolved.storage.nfs.provisioner == "subdir":
        wrong = "nfs-subdir-external-provisioner has had no release since 2023"
        yield ("storage", "nfs", "provisioner"), wrong, "csi, unless volumes of it are to be adopted"


def _chosen(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    """What gpuctl chooses itself. The GPU Operator and Rancher have rules of their own."""
    kubernetes, behind = minor(resolved.kubernetes.version), []
    if order(kubernetes) > order(table()["kubernetes_newest"]):
        return  # VER-04 says so
    if (resolved.rancher or resolved.jupyterhub) and order(kubernetes) > max(map(order, table()["cert_manager_for"])):
        behind.append(f"cert-manager {newest_for('cert_manager_for', kubernetes)}")
    if resolved.kubernetes.ingress == "nginx" and order(kubernetes) > order(table()["nginx_ingress_tested"][1]):
        behind.append(f"F5's NGINX chart {table()['nginx_ingress']}")
    if behind:
        wrong = f"not known to be tested with Kubernetes {kubernetes}: {', '.join(behind)}"
        yield KUBERNETES, wrong, "an older Kubernetes, or see their release notes"


def _unknown(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    known, hub, rancher = table(), cluster.jupyterhub, cluster.management.rancher
    unknown: list[tuple[Loc, str, str]] = []
    if order(minor(resolved.kubernetes.version)) > order(known["kubernetes_newest"]):
        unknown.append((KUBERNETES, "Kubernetes", minor(resolved.kubernetes.version)))
    if gpu_nodes(resolved):
        version = cluster.gpu.operator
        if (
            version
            and not _operator_supports(version)
            and _release(version) > order(known["gpu_operator_first_maintained"])
        ):
            unknown.append((OPERATOR, "GPU Operator", minor(version)))
        branch = _driver_branch(cluster)
        if branch and branch > max(map(int, known["driver_branch_end_of_life"])):
            unknown.append((("gpu", "driver_version"), "the driver branch", str(branch)))
    if rancher and rancher.version and minor(rancher.version) not in known["rancher_supports"]:
        unknown.append((("management", "rancher", "version"), "Rancher", minor(rancher.version)))
    if hub and hub.version and _release(hub.version) > _release(str(known["jupyterhub"])):
        unknown.append((("jupyterhub", "version"), "the chart", hub.version))
    for loc, what, which in unknown:
        wrong = f"{what} {which} is not in the table of {known['date']}: whether it fits is not checked"
        yield loc, wrong, "see its release notes"


RULES = (
    Rule(
        "VER-12", "error", "The image is a disk that these VMs start from", "None of them would come up.", _disk,
        "directories of cloud-images.ubuntu.com/releases and cloud.debian.org/images/cloud; cloud.debian.org: variants",
    ),
    Rule(
        "VER-01", "warning", "Kubernetes is supported", "Ended releases get no security fixes.", _ended,
        "kubernetes.io/releases; releases of k3s-io/k3s",
    ),
    Rule(
        "VER-02", "error", "The GPU driver exists for the OS", "The Operator pulls one driver image per OS.", _driver,
        "GPU Operator documentation, platform support (no Debian); NVIDIA/gpu-operator#1212 (debian12), #2225, #418",
    ),
    Rule(
        "VER-03", "warning", "The GPU Operator is maintained and fits Kubernetes",
        "NVIDIA tests release lines together.", _operator,
        "GPU Operator documentation, platform support and release notes; releases of k3s-io/k3s",
    ),
    Rule(
        "VER-04", "note", "Versions are in the table", "What is not known cannot be judged.", _unknown,
        "spec/versions.yaml",
    ),
    Rule(
        "VER-05", "error", "The ingress controller is alive", "Whoever is let in from outside needs fixes.", _ingress,
        "README of kubernetes/ingress-nginx: retired in 2026-03",
    ),
    Rule(
        "VER-06", "warning", "The hub's chart is maintained", "Users from outside need fixes.", _hub,
        "changelog of jupyterhub/zero-to-jupyterhub-k8s",
    ),
    Rule(
        "VER-07", "warning", "The driver branch is maintained", "A driver runs in the kernel and needs fixes.", _branch,
        "docs.nvidia.com/datacenter/tesla, Supported Drivers and CUDA Toolkit Versions",
    ),
    Rule(
        "VER-08", "note", "The NFS provisioner is maintained", "Nobody will fix it.", _subdir,
        "releases of kubernetes-sigs/nfs-subdir-external-provisioner",
    ),
    Rule(
        "VER-09", "warning", "The image is the named OS", "Packages and driver images are chosen by image.os.", _named,
        "addresses of cloud-images.ubuntu.com/releases and cloud.debian.org/images/cloud in lima-vm/lima, templates",
    ),
    Rule(
        "VER-10", "warning", "A preinstalled driver is in the image", "Nobody else would install it.", _preinstalled,
        "GPU Operator documentation, pre-installed drivers: driver.enabled=false; the images' content is unverified",
    ),
    Rule(
        "VER-11", "note", "What gpuctl chooses is tested with Kubernetes", "Charts lag behind Kubernetes.", _chosen,
        "cert-manager.io/docs/releases, supported releases; docs.nginx.com, NGINX Ingress, technical specifications",
    ),
)  # fmt: skip
