"""Whether what shall run finds room on the nodes as they will be: taints, replicas, profiles, quotas, users' homes."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.spec import fit
from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import JupyterHub, Node, Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule
from gpuctl.spec.units import GIB, show_gib, show_size

HUB = ("jupyterhub",)
RANCHER = ("management", "rancher")
WAYS_OUT = {
    "slices": "choose slices of a pool's layout (gpus: {sharing: mig, mig: ...})",
    "scratch": "give that pool a scratch disk (scratch: SIZE), or remove jupyterhub.scratch",
}
SERVER_TAINT, CRITICAL_TAINT = "node-role.kubernetes.io/control-plane", "CriticalAddonsOnly"


# --- what the cluster needs


def _tolerates(keys: frozenset[str], node: Node) -> bool:
    """Whether pods that come with tolerations of ``keys`` run on the node."""
    return all(
        taint.effect == "PreferNoSchedule"
        or (taint.key in keys and (taint.key == CRITICAL_TAINT or taint.effect == "NoSchedule"))
        for taint in node.taints
    )


def _room(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    if resolved.rancher and not fit.untainted(resolved):
        yield (
            RANCHER,
            "every node is tainted, so Rancher and what it brings have nowhere to run",
            "leave the control planes untainted, or add a pool without taints",
        )


def _core(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    """What brings its own tolerations. The rest is given those of the servers where every node is tainted."""
    needed = [("the cluster's DNS (CoreDNS)", frozenset({SERVER_TAINT, CRITICAL_TAINT}))]
    if fit.gpu_nodes(resolved):
        needed.append(("the GPU Operator", frozenset({SERVER_TAINT})))
    for what, keys in needed:
        if not any(_tolerates(keys, node) for node in resolved.nodes):
            yield (
                ("nodes", "control_plane", "taints"),
                f"every node has a taint that {what} does not tolerate",
                f"taint the control planes with {SERVER_TAINT}:NoSchedule only, or add a pool without taints",
            )


def _replicas(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    rancher, room = cluster.management.rancher, len(fit.untainted(resolved))
    # the default is for clusters of any size: only who asked for more is told
    if rancher and "replicas" in rancher.model_fields_set and 0 < room < rancher.replicas:
        yield (
            (*RANCHER, "replicas"),
            f"{rancher.replicas} replicas of Rancher on {room} node{'s' * (room != 1)} without taints: those that "
            "share a node fall together and take memory twice",
            f"replicas: {room}",
        )


# --- notebooks


def _fits(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    hub, nodes = resolved.jupyterhub, fit.candidates(resolved)
    if hub is None or cluster.jupyterhub is None or not cluster.jupyterhub.profiles:
        return  # profiles that nobody wrote fit by construction
    for number, profile in enumerate(hub.profiles):
        found = [(fit.obstacle(hub, profile, node), node) for node in nodes]
        obstacles = [(obstacle, node) for obstacle, node in found if obstacle]
        if not obstacles or len(obstacles) < len(found):
            continue
        # the node that comes nearest
        nearest, node = max(obstacles, key=lambda pair: fit.FIELDS.index(pair[0].field))
        if nearest.field == "scratch" and all(obstacle.field == "scratch" for obstacle, _ in obstacles):
            continue  # HUB-R7 says so, once
        place: Loc = (*HUB, "profiles", number)
        yield (
            place if nearest.field == "scratch" else (*place, nearest.field),
            f"no node can run the profile {profile.name!r}: it wants {nearest.wanted}, {node.name} has {nearest.has}",
            WAYS_OUT.get(
                nearest.field, "a notebook lives on one node: ask for less, or make a pool with more per node"
            ),
        )


def _quotas(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if hub is None:
        return
    nodes, quota = fit.candidates(resolved), hub.quota
    memory, cpus, gpus = sum(map(fit.memory, nodes)), sum(node.cpus for node in nodes), _gpus(resolved, nodes)
    # a notebook is given a share of the CPUs that it may use, so more limits fit than there are CPUs
    for field, limit, has, shown in (
        ("gpus", quota.gpus, gpus, f"{gpus} {fit.GPU}"),
        ("cpus", quota.cpus, cpus / fit.CPU_GUARANTEE, f"{cpus} CPUs for limits of {cpus / fit.CPU_GUARANTEE:g}"),
        ("memory", quota.memory, memory, f"{memory / GIB:.0f}GiB for pods"),
    ):
        if limit is not None and limit > has:
            yield (
                (*HUB, "quota", field),
                f"the nodes for notebooks have {shown}: this quota refuses nobody, notebooks wait for room instead",
                "a smaller quota, or none",
            )


def _gpus(resolved: Resolved, nodes: tuple[Node, ...]) -> int:
    """How many nvidia.com/gpu the nodes offer. The nodes of a pool are alike."""
    pools: dict[str, list[Node]] = {}
    for node in nodes:
        pools.setdefault(node.pool, []).append(node)
    return sum(fit.offered(resolved, alike[0]).get(fit.GPU, 0) * len(alike) for alike in pools.values())


def _at_once(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if hub is None or hub.quota.notebooks is None:
        return
    nodes, count, place = fit.candidates(resolved), hub.quota.notebooks, (*HUB, "quota", "notebooks")
    # where there is room for none, GPU-R3 and HUB-R7 say so
    smallest = min((profile.memory or 0 for profile in hub.profiles), default=0)
    if smallest and 0 < (room := sum(fit.memory(node) // smallest for node in nodes)) < count:
        wrong = (
            f"{count} notebooks, but the nodes have memory for {room} of the smallest profile ({show_size(smallest)})"
        )
        yield place, wrong, f"{room} at most, or smaller profiles"
    if (room := len(nodes) * resolved.kubernetes.max_pods) < count:
        yield place, f"{count} notebooks, but the nodes run {room} pods at most", "fewer, or more kubernetes.max_pods"
    if hub.scratch and 0 < (room := sum((node.scratch or 0) // hub.scratch.size for node in nodes)) < count:
        yield (
            place,
            f"{count} notebooks, but the scratch disks hold {room} volumes of {show_size(hub.scratch.size)}: nothing "
            "keeps a volume to its size, and a full disk stops all on it",
            f"{room} at most, smaller volumes or larger disks",
        )


def _homes(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if hub is None or not (users := len(_users(hub))):
        return
    wanted = users * hub.home_size
    shown = f"{users} home{'s' * (users != 1)} of {show_size(hub.home_size)}, one for each user who may log in,"
    if hub.quota.storage is not None and wanted > hub.quota.storage:
        yield (
            (*HUB, "quota", "storage"),
            f"{shown} are {show_gib(wanted)}: {show_size(hub.quota.storage)} leave the last of them without one",
            f"{-(-wanted // GIB)}GiB at least, and what scratch volumes take, or smaller homes",
        )
    local = sum(node.disk for node in fit.candidates(resolved))
    if hub.home_class == resolved.storage.local.storage_class and wanted > local:
        yield (
            (*HUB, "home", "size"),
            f"{shown} are {show_gib(wanted)}, the disks of the nodes {show_gib(local)}: "
            "nothing keeps a home to its size",
            "smaller homes, larger disks, or storage.nfs",
        )


def _users(hub: JupyterHub) -> set[str]:
    """Who may log in, when the spec says it one by one."""
    auth = hub.auth
    if auth.allow_all or (auth.ldap and auth.ldap.allowed_groups):
        return set()
    return {*auth.allowed_users, *auth.admins}


RULES = (
    Rule(
        "GPU-R3", "error", "Every profile fits a node", "A pod cannot span nodes; it would stay pending.", _fits,
        "Kubernetes docs: assigning pods, node allocatable; the guest kernel's share is unverified",
    ),
    Rule(
        "MGT-R9", "error", "Rancher has room", "Its own pods tolerate no taints of yours.", _room,
        "Rancher's chart; Kubernetes docs: taints and tolerations",
    ),
    Rule(
        "SCH-01", "error", "What the cluster needs has room", "Without DNS nothing finds anything.",
        _core, "K3s: manifests/coredns.yaml; the GPU Operator's chart (operator.tolerations)",
    ),
    Rule(
        "SCH-02", "note", "Rancher's replicas have nodes of their own", "They spread only as far as there are nodes.",
        _replicas, "Rancher's chart: antiAffinity preferred",
    ),
    Rule(
        "SCH-03", "note", "Quotas are within the nodes", "A quota beyond them limits nothing.", _quotas,
        "Kubernetes docs: resource quotas (independent of the cluster's capacity)",
    ),
    Rule(
        "SCH-04", "warning", "The notebooks of the quota fit together", "The last would stay pending or fill a disk.",
        _at_once, "Kubernetes docs: node allocatable; local-path-provisioner: no capacity limit",
    ),
    Rule(
        "SCH-05", "warning", "Every user gets a home", "The last users' claims would be refused, or fill a disk.",
        _homes, "Kubernetes docs: resource quotas, storage; local-path-provisioner: no capacity limit",
    ),
)  # fmt: skip
