"""What the checks judge: everything that was observed in one run. Plain values, no adapters.

A source that did not answer is its GpuctlError; a judge is only called when the sources it needs answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuctl.phases.gpu.observe import Host as CardHost
from gpuctl.phases.gpu.observe import Offer
from gpuctl.phases.manage.fleet import Seen
from gpuctl.run.errors import GpuctlError
from gpuctl.systems.proxmox import PciMapping, Vm
from gpuctl.verify.stress import Stress


@dataclass(frozen=True)
class Clock:
    """A host's clock against ours. ``offset`` in seconds, known to within ``error``; ``answered``: first SSH answer."""

    offset: float
    error: float
    answered: float


@dataclass(frozen=True)
class EtcdMember:
    """What a member says of itself on its metrics port. ``peers``: ids of the other members it knows."""

    id: str
    healthy: bool
    leader: bool
    has_leader: bool
    peers: tuple[str, ...]
    revision: int


@dataclass(frozen=True)
class Snapshot:
    """The newest etcd snapshot of a server.

    ``intact``: the sha256 at its end fits, None when it carries none. ``encrypted``, ``plain``: Secrets found in it
    whose value is encrypted, or readable.
    """

    name: str
    age: float
    intact: bool | None
    encrypted: int
    plain: int


@dataclass(frozen=True)
class Host:
    """One host. ``memory`` bytes; ``certificates``: seconds left by path; ``modes``: permission bits by path."""

    clock: Clock
    cpus: int
    memory: int
    certificates: Mapping[str, float]
    modes: Mapping[str, int]
    etcd: EtcdMember | None
    snapshot: Snapshot | None


@dataclass(frozen=True)
class Hypervisor:
    """The Proxmox server. ``configs`` of every VM we may see; ``agents``: seconds to answer, None: silent."""

    vms: Mapping[int, Vm]
    configs: Mapping[int, Mapping[str, str]]
    mappings: Mapping[str, PciMapping]
    agents: Mapping[int, float | None]


@dataclass(frozen=True)
class Endpoint:
    """An address of the API. ``latencies`` of answered ``/readyz`` in seconds; ``error`` of the first that failed."""

    latencies: tuple[float, ...]
    asked: int
    error: str


@dataclass(frozen=True)
class Cluster:
    """The Kubernetes API: raw objects; ``endpoints`` by name (server or ``VIP``); ``anonymous``: status by path.

    ``releases``: status of every Helm release by namespace/name. ``pods`` of all namespaces. ``deprecated``: by
    server, APIs that were asked for since it started, with the Kubernetes minor that has them no more (or "").
    """

    nodes: tuple[Mapping[str, Any], ...]
    system_pods: tuple[Mapping[str, Any], ...]
    requests: tuple[Mapping[str, Any], ...]
    releases: Mapping[str, str]
    endpoints: Mapping[str, Endpoint]
    anonymous: Mapping[str, int]
    pods: tuple[Mapping[str, Any], ...] = ()
    deprecated: Mapping[str, tuple[tuple[str, str], ...] | GpuctlError] = field(default_factory=dict)


@dataclass(frozen=True)
class Gpus:
    """The GPUs as every layer has them. Hosts, offers and exporters by node name.

    ``policy``: what the Operator says of itself; ``operator``: version of its release, "" when there is none.
    ``exporters``: DCGM metrics as value by card and metric.
    """

    hosts: Mapping[str, CardHost | GpuctlError]
    offers: Mapping[str, Offer]
    policy: str
    operator: str
    exporters: Mapping[str, Mapping[str, Mapping[str, float]] | GpuctlError]


@dataclass(frozen=True)
class Interface:
    """The interface of a host's address. ``speed`` in bit/s; None when it tells none or no card is behind it."""

    name: str
    mtu: int
    speed: float | None


@dataclass(frozen=True)
class Path:
    """From a pod on one node to pods on others, by their node. ``mtu`` of the pod's own interface, in bytes.

    ``resolved`` of ``asked`` DNS lookups; ``lost``: small packets, in percent; ``passed``: the largest packet that
    arrived unfragmented; ``pods``, ``hosts``: TCP between the pods, and between the hosts themselves, in bit/s (to one
    peer only).
    """

    mtu: int
    interface: Interface
    resolved: int
    asked: int
    lost: Mapping[str, int]
    passed: Mapping[str, int]
    pods: Mapping[str, float | GpuctlError] = field(default_factory=dict)
    hosts: Mapping[str, float | GpuctlError] = field(default_factory=dict)


@dataclass(frozen=True)
class Hub:
    """JupyterHub as users reach it. ``error``: why it does not answer, "" when it does; ``took`` seconds to answer.

    ``version`` as it says itself; ``chart`` and ``app`` (the JupyterHub it brings) of its release, "" when unknown.
    ``namespace``: labels; ``pods`` of the namespace, raw.
    """

    error: str
    version: str
    took: float
    chart: str
    app: str
    namespace: Mapping[str, str]
    pods: tuple[Mapping[str, Any], ...]

    @property
    def cause(self) -> str:
        """Of everything that cannot be looked at while it does not answer."""
        return self.error.partition(" (")[0]


@dataclass(frozen=True)
class Compute:
    """What a notebook computes with. ``cards`` (or MIG slices) that it sees; ``library`` "": none that knows GPUs.

    ``devices`` that the library uses; ``correct``: every matrix product was right.
    """

    cards: int
    library: str
    devices: int
    correct: bool


# of its host's speed that a notebook has on the scratch disk; measured again until it has, or clearly has not
SCRATCH_SHARE = 0.8


@dataclass(frozen=True)
class Notebook:
    """A notebook of one profile, started for the check. Seconds; a field that was not measured is None.

    ``held``: who has what it waits for, "" when nobody; ``error``: why it did not start or work, "" when it did.
    ``kept``: a file was there again after a restart. ``scratch`` and ``disk``: bytes per second that the notebook and
    its host write to the scratch disk. ``reached``: of ``targets``, those that it could connect to.
    """

    node: str = ""
    ready: float | None = None
    held: str = ""
    error: str = ""
    compute: Compute | None = None
    kept: bool | None = None
    scratch: float | None = None
    disk: float | None = None
    targets: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    released: float | None = None


@dataclass(frozen=True)
class GitOps:
    """``head``: the branch's commit at the remote; ``controllers``: Fleet's own Deployments that do not run."""

    head: str | GpuctlError
    seen: Seen
    controllers: tuple[str, ...]


@dataclass(frozen=True)
class Storage:
    """StorageClass objects."""

    classes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Volume:
    """One pod wrote it, another read it: their nodes, and the SHA-256 that each saw. ``seconds`` for both."""

    seconds: float
    written: str
    read: str
    writer: str
    reader: str


@dataclass(frozen=True)
class Management:
    """Rancher. ``status`` of its page after ``seconds``, or why there is none; ``replicas`` ready, None: not installed.

    ``local``: why its cluster of that name is not Ready, "" when it is; ``first_password``: whether it still works.
    """

    status: int
    seconds: float
    error: str
    replicas: int | None
    local: str
    first_password: bool | GpuctlError


@dataclass(frozen=True)
class Facts:
    """``now``: seconds since the epoch. Hosts, intruders, paths, starts and services by node name, notebooks by
    profile, volumes by class.

    ``modes`` of the workspace's private files; ``starts``: seconds until each of some new pods was Ready; ``services``:
    connections that were answered, by what they were to.
    """

    now: float
    modes: Mapping[str, int] = field(default_factory=dict)
    proxmox: Hypervisor | GpuctlError | None = None
    terraform: tuple[str, ...] | GpuctlError | None = None
    hosts: Mapping[str, Host | GpuctlError] | GpuctlError | None = None
    kubernetes: Cluster | GpuctlError | None = None
    intruders: Mapping[str, int | GpuctlError] | GpuctlError | None = None
    gpus: Gpus | GpuctlError | None = None
    paths: Mapping[str, Path | GpuctlError] | GpuctlError | None = None
    starts: Mapping[str, tuple[float, ...] | GpuctlError] | GpuctlError | None = None
    stress: Mapping[str, Stress | GpuctlError] | GpuctlError | None = None
    hub: Hub | GpuctlError | None = None
    notebooks: Mapping[str, Notebook] | GpuctlError | None = None
    gitops: GitOps | GpuctlError | None = None
    services: Mapping[str, Mapping[str, int] | GpuctlError] | GpuctlError | None = None
    storage: Storage | GpuctlError | None = None
    volumes: Mapping[str, Volume | GpuctlError] | GpuctlError | None = None
    management: Management | GpuctlError | None = None

    # what a judge reads: it is only called when the source is there

    @property
    def hypervisor(self) -> Hypervisor:
        assert isinstance(self.proxmox, Hypervisor)
        return self.proxmox

    @property
    def cluster(self) -> Cluster:
        assert isinstance(self.kubernetes, Cluster)
        return self.kubernetes

    @property
    def cards(self) -> Gpus:
        assert isinstance(self.gpus, Gpus)
        return self.gpus

    @property
    def card_hosts(self) -> dict[str, CardHost]:
        """The hosts with GPUs that could be looked at."""
        return {name: host for name, host in self.cards.hosts.items() if not isinstance(host, GpuctlError)}

    @property
    def reached_hub(self) -> Hub:
        assert isinstance(self.hub, Hub)
        return self.hub

    @property
    def followed(self) -> GitOps:
        assert isinstance(self.gitops, GitOps)
        return self.gitops

    @property
    def spawned(self) -> Mapping[str, Notebook]:
        """Notebooks by profile."""
        assert self.notebooks is not None and not isinstance(self.notebooks, GpuctlError)
        return self.notebooks

    @property
    def drift(self) -> tuple[str, ...]:
        assert isinstance(self.terraform, tuple)
        return self.terraform

    @property
    def reached(self) -> dict[str, Host]:
        """The hosts that could be looked at."""
        assert self.hosts is not None and not isinstance(self.hosts, GpuctlError)
        return {name: host for name, host in self.hosts.items() if isinstance(host, Host)}

    @property
    def unreached(self) -> dict[str, GpuctlError]:
        """The hosts that could not."""
        assert self.hosts is not None and not isinstance(self.hosts, GpuctlError)
        return {name: host for name, host in self.hosts.items() if isinstance(host, GpuctlError)}

    @property
    def intruded(self) -> Mapping[str, int | GpuctlError]:
        assert self.intruders is not None and not isinstance(self.intruders, GpuctlError)
        return self.intruders

    @property
    def ways(self) -> Mapping[str, Path | GpuctlError]:
        assert self.paths is not None and not isinstance(self.paths, GpuctlError)
        return self.paths

    @property
    def started(self) -> Mapping[str, tuple[float, ...] | GpuctlError]:
        assert self.starts is not None and not isinstance(self.starts, GpuctlError)
        return self.starts

    @property
    def stressed(self) -> Mapping[str, Stress | GpuctlError]:
        assert self.stress is not None and not isinstance(self.stress, GpuctlError)
        return self.stress

    @property
    def served(self) -> Mapping[str, Mapping[str, int] | GpuctlError]:
        assert self.services is not None
        assert not isinstance(self.services, GpuctlError)
        return self.services

    @property
    def classes(self) -> Storage:
        assert isinstance(self.storage, Storage)
        return self.storage

    @property
    def tried(self) -> Mapping[str, Volume | GpuctlError]:
        assert self.volumes is not None
        assert not isinstance(self.volumes, GpuctlError)
        return self.volumes

    @property
    def managed(self) -> Management:
        assert isinstance(self.management, Management)
        return self.management
