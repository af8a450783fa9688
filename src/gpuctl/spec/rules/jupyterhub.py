"""Notebooks: profiles that run somewhere, quotas that let them, users who may log in, storage that fits its use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gpuctl.spec import fit
from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import JupyterHub, Profile, Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule
from gpuctl.spec.rules.security import pinned
from gpuctl.spec.units import show_size

HUB = ("jupyterhub",)
AUTH = (*HUB, "auth")


def _with_hub(
    check: Callable[[Resolved, Cluster, JupyterHub], Iterable[Broken]],
) -> Callable[[Resolved, Cluster], Iterable[Broken]]:
    def checked(resolved: Resolved, cluster: Cluster) -> Iterable[Broken]:
        return check(resolved, cluster, resolved.jupyterhub) if resolved.jupyterhub else ()

    return checked


def _written(cluster: Cluster, hub: JupyterHub) -> Iterator[tuple[Loc, Profile]]:
    """The profiles with their place; those that nobody wrote fit by construction."""
    if cluster.jupyterhub and cluster.jupyterhub.profiles:
        yield from (((*HUB, "profiles", number), profile) for number, profile in enumerate(hub.profiles))


# --- profiles


@_with_hub
def _unique(_: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    seen: set[str] = set()
    for loc, profile in _written(cluster, hub):
        if profile.name in seen:
            yield (*loc, "name"), f"there are two profiles {profile.name!r}", "give each its own name"
        seen.add(profile.name)


@_with_hub
def _default(_: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    written = list(_written(cluster, hub))
    if written and _cards(written[0][1]) and any(not _cards(profile) for _, profile in written):
        yield (
            (*written[0][0], "name"),
            f"the first profile is the default, and {written[0][1].name!r} takes a GPU of everybody who chooses none",
            "put the one without a GPU first",
        )


def _cards(profile: Profile) -> int:
    return profile.gpus + sum(number for _, number in profile.slices)


@_with_hub
def _ambiguous(resolved: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    kinds = {node.gpus.sharing for node in fit.gpu_nodes(resolved) if node.gpus}
    for loc, profile in _written(cluster, hub):
        if profile.gpus == 1 and {"none", "time-slicing"} <= kinds:
            yield (
                (*loc, "gpus"),
                f"{profile.name!r} may get a whole card or a time-slice: both are one nvidia.com/gpu",
                "share the cards of all pools alike, or cut some by MIG",
            )


@_with_hub
def _shm(_: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    for loc, profile in _written(cluster, hub):
        if profile.memory and profile.memory <= hub.shm:
            yield (
                (*loc, "memory"),
                f"a full /dev/shm ({show_size(hub.shm)}) uses up all of {profile.name!r} ({show_size(profile.memory)})",
                "more memory, or less jupyterhub.shm",
            )


@_with_hub
def _pinned(_: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    own = [((*loc, "image"), profile.image) for loc, profile in _written(cluster, hub) if profile.image != hub.image]
    for loc, image in [((*HUB, "image"), hub.image), *own]:
        if not pinned(image):
            yield loc, f"{image} is whatever its registry holds today", "name a tag, or better a digest (@sha256:...)"


# --- quotas


@_with_hub
def _quotas(resolved: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    quota, place = hub.quota, (*HUB, "quota")
    for _, profile in _written(cluster, hub):
        cards = fit.request(resolved, profile).get(fit.GPU, 0)
        limits: tuple[tuple[str, float, float | None], ...] = (
            ("gpus", cards, quota.gpus),
            ("cpus", profile.cpus or 0, quota.cpus),
            ("memory", profile.memory or 0, quota.memory),
        )
        for field, wanted, limit in limits:
            if limit is not None and wanted > limit:
                show = "{:g}".format if field != "memory" else lambda size: show_size(int(size))
                yield (
                    (*place, field),
                    f"{profile.name!r} wants {show(wanted)}, all notebooks together get {show(limit)}",
                    "a larger quota, or a smaller profile",
                )
    each = hub.home_size + (hub.scratch.size if hub.scratch else 0)
    if quota.storage is not None and quota.storage < each:
        yield (
            (*place, "storage"),
            f"one notebook has {show_size(each)}, all together get {show_size(quota.storage)}",
            "a larger quota",
        )


@_with_hub
def _limits(_: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    for name, quota in (("cpus", hub.quota.cpus), ("memory", hub.quota.memory)):
        missing = [profile.name for profile in hub.profiles if getattr(profile, name) is None]
        if quota is not None and missing:
            yield (
                (*HUB, "quota", name),
                f"Kubernetes refuses notebooks without a limit under this quota: {', '.join(missing)}",
                f"give every profile its {name}",
            )


# --- who may log in


@_with_hub
def _blocks(_: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    auth = hub.auth
    for kind, block in (("oauth", auth.oauth), ("ldap", auth.ldap)):
        if auth.kind == kind and block is None:
            yield (*AUTH, "kind"), f"kind {kind} needs its block {kind}", f"add jupyterhub.auth.{kind}"
        elif auth.kind != kind and block is not None:
            yield (*AUTH, kind), f"the block {kind} does nothing with kind {auth.kind}", f"remove it, or kind: {kind}"
    if auth.kind != "dummy" and auth.password is not None:
        yield (*AUTH, "password"), f"the password does nothing with kind {auth.kind}", "remove it"
    if ldap := auth.ldap:
        place = (*AUTH, "ldap")
        if not ldap.bind_dn_template and not ldap.search_base:
            yield place, "users cannot be found", "give bind_dn_template, or search_base"
        for number, template in enumerate(ldap.bind_dn_template):
            if "{username}" not in template:
                yield (
                    (*place, "bind_dn_template", number),
                    f"{template!r} is the same for every user",
                    "write {username} in it",
                )
        if (ldap.search_user is None) != (ldap.search_password is None):
            yield place, "search_user and search_password belong together", "give both, or none"


@_with_hub
def _somebody(_: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    auth = hub.auth
    groups = auth.kind == "ldap" and auth.ldap and auth.ldap.allowed_groups
    if not (auth.allow_all or auth.allowed_users or auth.admins or groups):
        yield AUTH, "nobody may log in: JupyterHub denies who is not allowed", "set allow_all, allowed_users or admins"


# --- storage and the way in


@_with_hub
def _home(resolved: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    storage = resolved.storage
    place = (*HUB, "home", "class") if cluster.jupyterhub and cluster.jupyterhub.home.class_ else (*HUB, "home")
    known = [storage.local.storage_class, *([storage.nfs.storage_class] if storage.nfs else [])]
    if not hub.home_class:
        yield place, "there is no default storage class for homes", f"set home.class to one of {', '.join(known)}"
    elif storage.scratch and hub.home_class == storage.scratch.storage_class:
        yield place, "homes would lie on scratch disks, whose data is not kept", f"use one of {', '.join(known)}"
    elif hub.home_class not in known:
        yield place, f"there is no storage class {hub.home_class!r}", f"known: {', '.join(known)}"


@_with_hub
def _pinned_homes(resolved: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    if hub.home_class == resolved.storage.local.storage_class and len(fit.candidates(resolved)) > 1:
        yield (
            (*HUB, "home"),
            "homes lie on the disk of the node where each user first starts, and keep the user there for good",
            "give storage.nfs, and homes move with their users",
        )


@_with_hub
def _database(resolved: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    storage = resolved.storage
    if storage.nfs and storage.local.storage_class == storage.nfs.storage_class:
        yield (
            ("storage", "local", "class"),
            "the hub's database would lie on NFS, where SQLite's locks do not work",
            "give the class on the nodes' disks a name of its own",
        )


@_with_hub
def _scratch(resolved: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    if hub.scratch is None:
        return
    largest = max((node.scratch or 0 for node in fit.candidates(resolved)), default=0)
    if resolved.storage.scratch is None:
        yield (*HUB, "scratch"), "there is no storage class on scratch disks", "add storage.scratch"
    elif not largest:
        yield (*HUB, "scratch"), "no pool has a scratch disk", "give a pool scratch: SIZE, or remove jupyterhub.scratch"
    elif hub.scratch.size > largest:
        yield (
            (*HUB, "scratch", "size"),
            f"{show_size(hub.scratch.size)} for each notebook, the largest scratch disk has {show_size(largest)}",
            "a smaller volume, or a larger disk",
        )


@_with_hub
def _reachable(resolved: Resolved, cluster: Cluster, hub: JupyterHub) -> Iterator[Broken]:
    if resolved.kubernetes.ingress == "none":
        yield (
            ("kubernetes", "ingress"),
            "nothing would lead to the hub: there is no ingress controller",
            "traefik or nginx",
        )
    elif resolved.network.ingress_vip is None:
        yield (*HUB, "hostname"), "nothing would lead to the hub: there is no ingress VIP", "set network.ingress_vip"


RULES = (
    Rule(
        "HUB-R1", "error", "Profile names are unique", "The hub finds a profile by its name.", _unique,
        "jupyterhub/kubespawner, spawner.py: profile_list (slug), _get_profile takes the first that matches",
    ),
    Rule(
        "HUB-R2", "warning", "The default takes no GPU", "Most people never choose.", _default,
        "jupyterhub/kubespawner, spawner.py: without one chosen, the default profile, else the first",
    ),
    Rule(
        "HUB-R3", "error", "Quotas let every profile run", "The notebook would be refused.", _quotas,
        "kubernetes.io/docs/concepts/policy/resource-quotas: 403 beyond one; requests.nvidia.com/gpu",
    ),
    Rule(
        "HUB-R4", "error", "Quotas count what has limits", "Pods without limits are refused.", _limits,
        "kubernetes.io/docs/concepts/policy/resource-quotas, requests compared to limits",
    ),
    Rule(
        "HUB-R5", "error", "Authentication is complete", "The hub would not start, or not as meant.", _blocks,
        "README of jupyterhub/ldapauthenticator; OAuthenticator documentation, generic provider",
    ),
    Rule(
        "HUB-R6", "error", "Somebody may log in", "Since JupyterHub 5 everybody is denied by default.", _somebody,
        "changelog of JupyterHub 5.0: allow_all",
    ),
    Rule(
        "HUB-R7", "error", "Scratch volumes have a disk",
        "Without one a notebook stays pending; and local-path, which holds no volume to its size, would fill the disk.",
        _scratch, "kubernetes.io/docs, generic ephemeral volumes; rancher/local-path-provisioner: capacity is ignored",
    ),
    Rule(
        "HUB-R8", "error", "Homes have a class that keeps them", "Claims would stay pending, or data go.", _home,
        "kubernetes.io/docs/concepts/storage/storage-classes: default class, reclaim policy",
    ),
    Rule(
        "HUB-R9", "error", "The hub's database is not on NFS", "SQLite needs locks that work.", _database,
        "sqlite.org/faq.html, question 5: locks on NFS",
    ),
    Rule(
        "HUB-R10", "error", "The hub can be reached", "Users come through the ingress.", _reachable,
        "zero-to-jupyterhub documentation, advanced: ingress; kubernetes.io/docs, ingress: prerequisites",
    ),
    Rule(
        "HUB-R11", "warning", "Homes move with their users", "A local volume pins its user.", _pinned_homes,
        "rancher/local-path-provisioner, provisioner.go: NodeAffinity to the node's host name",
    ),
    Rule(
        "HUB-R12", "warning", "One GPU means one thing", "Users cannot tell what they got.", _ambiguous,
        "GPU Operator documentation, time-slicing: renameByDefault false keeps the name nvidia.com/gpu",
    ),
    Rule(
        "HUB-R13", "warning", "/dev/shm fits the memory", "It counts as the notebook's.", _shm,
        "kubernetes.io/docs/concepts/storage/volumes, emptyDir: counts against the container's memory limit",
    ),
    Rule(
        "HUB-R14", "warning", "Images are pinned", "A notebook should be the same tomorrow.", _pinned,
        "kubernetes.io/docs/concepts/containers/images: avoid :latest, specify a tag or digest",
    ),
)  # fmt: skip
