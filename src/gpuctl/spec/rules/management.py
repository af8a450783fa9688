"""What the cluster is managed with: ingress, storage classes, certificates, Rancher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule
from gpuctl.spec.versions import minor, order, table

RANCHER = ("management", "rancher")
NFS_VERSIONS = ("3", "4", "4.0", "4.1", "4.2")
CERTIFICATES = ("management", "certificates")


def _reachable(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    if resolved.rancher is None:
        return
    if resolved.kubernetes.ingress == "none":
        wrong = "nothing would lead to Rancher: there is no ingress controller"
        yield ("kubernetes", "ingress"), wrong, "traefik or nginx"
    elif resolved.network.ingress_vip is None:
        wrong = "nothing would lead to Rancher: there is no ingress VIP"
        yield (*RANCHER, "hostname"), wrong, "set network.ingress_vip"


def _unused_vip(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    wanted = resolved.rancher or resolved.jupyterhub  # which then says so itself
    if resolved.kubernetes.ingress == "none" and resolved.network.ingress_vip and not wanted:
        yield ("network", "ingress_vip"), "nothing answers there: kubernetes.ingress is none", "remove it"


def _issuer(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    given = resolved.certificates
    if given.issuer == "ca" and given.ca is None:
        yield CERTIFICATES, "issuer ca needs the CA", "add ca: {certificate: file:./ca.pem, key: env:CA_KEY}"
    if given.issuer != "ca" and given.ca is not None:
        yield (*CERTIFICATES, "ca"), f"the CA signs nothing with issuer {given.issuer}", "remove it, or issuer: ca"
    if given.issuer == "letsencrypt" and given.email is None:
        yield CERTIFICATES, "Let's Encrypt wants a contact", "add email"
    if given.email and given.issuer != "letsencrypt":
        yield (
            (*CERTIFICATES, "email"),
            f"email does nothing with issuer {given.issuer}",
            "remove it, or issuer: letsencrypt",
        )


def _one_default(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    storage = resolved.storage
    if storage.nfs and storage.nfs.default and storage.local.default:
        names = f"{storage.nfs.storage_class} and {storage.local.storage_class}"
        yield ("storage", "local", "default"), f"{names} would both be the default class", "leave one of them true"


def _class_names(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    storage = resolved.storage
    named = [
        *([("nfs", storage.nfs.storage_class)] if storage.nfs else []),
        *([("scratch", storage.scratch.storage_class)] if storage.scratch else []),
        ("local", storage.local.storage_class),
    ]
    counts = Counter(name for _, name in named)
    seen: set[str] = set()
    for place, name in named:
        if counts[name] > 1 and name in seen:
            yield ("storage", place, "class"), f"two storage classes are named {name!r}", "give each its own name"
        seen.add(name)


def _no_scratch(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if hub and hub.scratch:
        return  # HUB-R7 says so
    if resolved.storage.scratch and not any(node.scratch for node in resolved.nodes):
        wrong = f"no node has a scratch disk, so there will be no class {resolved.storage.scratch.storage_class}"
        yield ("storage", "scratch"), wrong, "give a pool a scratch disk (scratch: 500GiB), or remove it"


def _hostnames(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    rancher, hub = resolved.rancher, resolved.jupyterhub
    if rancher and hub and rancher.hostname == hub.hostname:
        wrong = f"Rancher and the hub are both {rancher.hostname}"
        yield (*RANCHER, "hostname"), wrong, "give each its own host name"
    server, domain = resolved.endpoint_name, resolved.kubernetes.cluster_domain
    named = [((*RANCHER, "hostname"), rancher), (("jupyterhub", "hostname"), hub)]
    for loc, name in ((loc, service.hostname) for loc, service in named if service):
        if name == server:
            yield loc, f"{name} is the Proxmox server", "a name of its own, which leads to network.ingress_vip"
        if f".{name}".endswith(f".{domain}"):
            wrong = f"pods would ask the cluster itself for {name}: kubernetes.cluster_domain is {domain}"
            yield loc, wrong, "a domain that is nobody's, as cluster.local is, or another host name"


def _options(cluster: Cluster) -> Iterator[tuple[Loc, str]]:
    """The mount options of NFS with their places."""
    for number, option in enumerate(cluster.storage.nfs.mount_options if cluster.storage.nfs else ()):
        yield ("storage", "nfs", "mount_options", number), option


def _writable(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, option in _options(cluster):
        name, _equals, value = option.partition("=")
        if name == "ro":
            yield loc, "nobody could write to a volume that is mounted read-only", "remove it"
        elif name in ("nfsvers", "vers") and value not in NFS_VERSIONS:
            yield loc, f"there is no NFS version {value!r}", f"one of {', '.join(NFS_VERSIONS)}"


def _soft(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, option in _options(cluster):
        if option == "soft":
            wrong = "with soft, what a notebook writes while the server is away may be lost without an error"
            yield loc, wrong, "hard, the default: programs wait for the server"


def _span(resolved: Resolved) -> tuple[str, str] | None:
    """The first and the last Kubernetes that Rancher supports; None where that is not known, as VER-04 says."""
    known: dict[str, tuple[str, str]] = table()["rancher_supports"]
    return known.get(minor(resolved.rancher.version)) if resolved.rancher else None


def _unfit(resolved: Resolved, cluster: Cluster) -> Broken:
    assert resolved.rancher
    given, kubernetes = cluster.management.rancher, minor(resolved.kubernetes.version)
    place: Loc = (*RANCHER, "version") if given and given.version else ("kubernetes", "version")
    first, last = table()["rancher_supports"][minor(resolved.rancher.version)]
    fitting = table()["rancher_for"].get(kubernetes)
    newest = max(table()["rancher_supports"].values(), key=_last)[1]
    way_out = f"use {fitting}" if fitting else f"the newest that Rancher supports is {newest}"
    wrong = f"Rancher {minor(resolved.rancher.version)} supports Kubernetes {first} to {last}, not {kubernetes}"
    return place, wrong, way_out


def _too_new(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if (span := _span(resolved)) and order(minor(resolved.kubernetes.version)) > order(span[1]):
        yield _unfit(resolved, cluster)


def _too_old(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if (span := _span(resolved)) and order(minor(resolved.kubernetes.version)) < order(span[0]):
        yield _unfit(resolved, cluster)


def _last(span: list[str]) -> tuple[int, ...]:
    return order(span[1])


RULES = (
    Rule(
        "MGT-R1", "error", "Rancher can be reached", "Its users come through the ingress.", _reachable,
        "Rancher documentation, Helm chart options: hostname; kubernetes.io/docs, ingress: prerequisites",
    ),
    Rule(
        "MGT-R2", "warning", "The ingress VIP has a use", "An address that nothing answers at.", _unused_vip,
        "gpuctl's ingress (render/ingress.py)",
    ),
    Rule(
        "MGT-R3", "error", "The issuer is complete",
        "Without its CA none is issued; and Let's Encrypt is to know whom to reach about the account.", _issuer,
        "cert-manager.io/docs: CA; ACME (email is optional there, and strongly recommended)",
    ),
    Rule(
        "MGT-R4", "error", "At most one default class", "Kubernetes would take the newer one.", _one_default,
        "kubernetes.io/docs/concepts/storage/storage-classes: the most recently created default",
    ),
    Rule(
        "MGT-R5", "error", "Classes have their own names", "One would be made over the other.", _class_names,
        "kubernetes.io/docs/concepts/overview/working-with-objects/names: unique for each type",
    ),
    Rule(
        "MGT-R6", "warning", "The scratch class has a disk", "Claims of it would stay pending.", _no_scratch,
        "kubernetes.io/docs/concepts/storage/persistent-volumes, binding: claims remain unbound without a volume",
    ),
    Rule(
        "MGT-R7", "error", "Host names are unique", "The ingress cannot tell them apart.", _hostnames,
        "kubernetes.io/docs/concepts/services-networking/ingress: name based virtual hosting",
    ),
    Rule(
        "MGT-R8", "error", "Kubernetes is not too new for Rancher", "Helm would refuse its chart.", _too_new,
        "kubeVersion of Rancher's charts; SUSE Rancher support matrix; spec/versions.yaml",
    ),
    Rule(
        "MGT-R12", "warning", "Kubernetes is not too old for Rancher", "SUSE tests release lines together.", _too_old,
        "SUSE Rancher support matrix; spec/versions.yaml",
    ),
    Rule(
        "MGT-R10", "error", "NFS volumes can be mounted and written", "Notebooks would not start, or not save.",
        _writable, "nfs(5), mount options: vers, and mount(8): ro",
    ),
    Rule(
        "MGT-R11", "warning", "NFS mounts wait for their server", "Work would be lost.", _soft,
        "nfs(5): soft, silent data corruption in certain cases",
    ),
)  # fmt: skip
