"""The resolved spec: what the YAML means, with every default explicit.

Sizes are bytes, durations are seconds, addresses are ``ipaddress`` objects, nodes are expanded one by one.
Everything is frozen: rendering and judging are functions of these values. ``source`` fields point back into the YAML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

Role = Literal["control_plane", "worker"]
Sharing = Literal["none", "time-slicing", "mig"]


@dataclass(frozen=True, order=True)
class SpecPath:
    """Where in the YAML a thing comes from: ``cluster.yaml:14:3 nodes.pools[0].memory``."""

    file: str
    line: int
    column: int
    field: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class SecretRef:
    """A secret by reference: ``env:NAME``, ``file:PATH`` (absolute after loading) or ``sops:PATH#key.path``."""

    kind: Literal["env", "file", "sops"]
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True)
class Image:
    """The cloud image the OS disks are imported from. ``checksum`` is the bare hex digest."""

    os: str
    url: str
    checksum_algorithm: Literal["sha256", "sha512"]
    checksum: str


@dataclass(frozen=True)
class Network:
    """The LAN of the nodes. ``mtu`` None: the bridge's own."""

    cidr: IPv4Network
    gateway: IPv4Address
    api_vip: IPv4Address
    ingress_vip: IPv4Address | None
    dns: tuple[IPv4Address, ...]
    search_domain: str
    ntp: tuple[str, ...]
    vlan: int | None
    mtu: int | None
    vrrp_router_id: int


@dataclass(frozen=True)
class NodeGpus:
    """GPUs of one node. ``devices``: PCI addresses on the Proxmox host when the spec names them, else ().

    ``replicas`` counts only with time-slicing, ``mig`` (a layout's name) only with MIG.
    """

    model: str
    count: int
    sharing: Sharing = "none"
    replicas: int = 1
    mig: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taint:
    """A Kubernetes taint."""

    key: str
    value: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True)
class Node:
    """One node: a VM, a host and a Kubernetes node of this name."""

    name: str
    role: Role
    pool: str
    vm_id: int
    address: IPv4Address
    cpus: int
    memory: int
    disk: int
    scratch: int | None
    gpus: NodeGpus | None
    labels: tuple[tuple[str, str], ...]
    taints: tuple[Taint, ...]
    source: SpecPath

    @property
    def is_server(self) -> bool:
        """Whether the node runs a K3s server (API and etcd)."""
        return self.role == "control_plane"


@dataclass(frozen=True)
class Kubernetes:
    """K3s settings that are the same on every node."""

    version: str
    pod_cidr: IPv4Network
    service_cidr: IPv4Network
    cni: Literal["flannel"]
    flannel_backend: Literal["vxlan", "host-gw", "wireguard-native"]
    ingress: Literal["traefik", "nginx", "none"]
    cluster_domain: str
    max_pods: int
    snapshot_schedule: str
    snapshot_retention: int
    tls_san: tuple[str, ...]

    @property
    def cluster_dns(self) -> IPv4Address:
        """The address of the DNS Service: the tenth of the service range, as K3s chooses it."""
        return self.service_cidr[10]


@dataclass(frozen=True)
class Ssh:
    """How gpuctl logs in to the hosts. Its own key pair lives in the workspace; these keys are added beside it."""

    user: str
    authorized_keys: tuple[str, ...]


@dataclass(frozen=True)
class Nfs:
    """An NFS export used as a storage class. It is external: destroy never touches it."""

    server: IPv4Address
    path: str
    storage_class: str
    default: bool
    provisioner: Literal["csi", "subdir"]
    mount_options: tuple[str, ...]
    reclaim: Literal["Retain", "Delete"]


@dataclass(frozen=True)
class ScratchClass:
    """The storage class on the nodes' scratch disks, mounted at ``mount``."""

    storage_class: str
    mount: str


@dataclass(frozen=True)
class LocalClass:
    """The storage class on the nodes' OS disks, below ``path``."""

    storage_class: str
    path: str
    default: bool


@dataclass(frozen=True)
class Storage:
    nfs: Nfs | None
    scratch: ScratchClass | None
    local: LocalClass

    @property
    def default_class(self) -> str:
        """Name of the default class; "" when the spec wants none."""
        if self.nfs and self.nfs.default:
            return self.nfs.storage_class
        return self.local.storage_class if self.local.default else ""


@dataclass(frozen=True)
class Gpu:
    """Cluster-wide GPU settings."""

    driver: Literal["operator", "preinstalled"]
    operator: str
    driver_version: str | None
    proof_image: str
    proof_command: str


@dataclass(frozen=True)
class PrivateCa:
    """``certificate`` is an absolute path."""

    certificate: str
    key: SecretRef


@dataclass(frozen=True)
class Certificates:
    issuer: Literal["self-signed", "ca", "letsencrypt"]
    ca: PrivateCa | None
    email: str | None


@dataclass(frozen=True)
class Rancher:
    hostname: str
    replicas: int
    version: str


@dataclass(frozen=True)
class GitCredentials:
    """Either user name and password, or a key. ``known_hosts`` is an absolute path."""

    username: str | None
    password: SecretRef | None
    ssh_key: SecretRef | None
    known_hosts: str | None


@dataclass(frozen=True)
class GitOps:
    """What Fleet follows. ``path`` has no slash at its ends; ``ca`` is an absolute path; ``polling`` seconds."""

    repo: str
    branch: str
    path: str
    credentials: GitCredentials | None
    ca: str | None
    polling: int
    bundles: tuple[str, ...]

    def bundle_name(self, bundle: str) -> str:
        """What Fleet calls the bundle: <GitRepo>-<path with / as ->; beyond 53 characters it would add a hash."""
        return f"{self.name}-{self.path.replace('/', '-')}-{bundle}"

    @property
    def name(self) -> str:
        """Of the GitRepo."""
        return "gpuctl"


@dataclass(frozen=True)
class OAuth:
    client_id: str
    client_secret: SecretRef
    authorize_url: str
    token_url: str
    userdata_url: str
    username_claim: str
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class Ldap:
    server: str
    port: int
    bind_dn_template: tuple[str, ...]
    search_base: str | None
    user_attribute: str
    search_user: str | None
    search_password: SecretRef | None
    allowed_groups: tuple[str, ...]


@dataclass(frozen=True)
class Auth:
    kind: Literal["dummy", "oauth", "ldap"]
    password: SecretRef | None
    oauth: OAuth | None
    ldap: Ldap | None
    admins: tuple[str, ...]
    allowed_users: tuple[str, ...]
    allow_all: bool


@dataclass(frozen=True)
class Profile:
    """A JupyterHub profile. ``slices``: MIG slices by profile; ``memory`` bytes."""

    name: str
    title: str
    gpus: int
    slices: tuple[tuple[str, int], ...]
    cpus: float | None
    memory: int | None
    image: str


@dataclass(frozen=True)
class HubScratch:
    size: int
    mount: str


@dataclass(frozen=True)
class Quota:
    """Limits of all notebooks together; None: unlimited."""

    notebooks: int | None
    gpus: int | None
    cpus: float | None
    memory: int | None
    storage: int | None


@dataclass(frozen=True)
class JupyterHub:
    """Times in seconds, sizes in bytes. ``home_class`` "": the cluster has no default class."""

    hostname: str
    version: str
    auth: Auth
    image: str
    profiles: tuple[Profile, ...]
    home_size: int
    home_class: str
    scratch: HubScratch | None
    shm: int
    culling_idle: int
    culling_every: int
    quota: Quota
    start_timeout: int


@dataclass(frozen=True)
class StoragePools:
    """Names of Proxmox storages: OS disks, scratch disks, and where images are imported to (content ``import``)."""

    os: str
    scratch: str
    images: str


@dataclass(frozen=True)
class Proxmox:
    """One Proxmox VE server. ``endpoint`` has no path and no trailing slash; ``ca`` is an absolute path or None."""

    endpoint: str
    ca: str | None
    token: SecretRef
    node: str
    storage: StoragePools
    bridge: str
    vm_id_base: int
    parallelism: int


@dataclass(frozen=True)
class HostCapacity:
    """What the Proxmox host is said to have, for offline checks. None or missing: not stated."""

    memory: int | None = None
    reserve: int = 0
    cpus: int | None = None
    storage: tuple[tuple[str, int], ...] = ()
    gpus: int | None = None


@dataclass(frozen=True)
class Mirrors:
    """Where things come from when not from the internet. All None on a connected site.

    ``k3s``: base of ``{base}/{version}/k3s`` beside ``sha256sum-amd64.txt`` and ``k3s-airgap-images-amd64.tar``;
    an http(s) URL or an absolute folder. ``apt``: a one-line apt source. ``terraform_provider``: a filesystem mirror.
    ``charts``: an absolute folder of chart packages or an oci:// address. ``registry``: an http(s) address.
    ``git``: what stands in front of the repository's name instead of its own server.
    """

    terraform_provider: str | None = None
    k3s: str | None = None
    os_image: Image | None = None
    apt: str | None = None
    charts: str | None = None
    registry: str | None = None
    git: str | None = None


@dataclass(frozen=True)
class Site:
    """Where: the Proxmox server, mirrors, and what of it is simulated (printed in every report as it stands)."""

    proxmox: Proxmox
    host: HostCapacity = field(default_factory=HostCapacity)
    mirrors: Mirrors = field(default_factory=Mirrors)
    backend: tuple[tuple[str, str | SecretRef], ...] = ()
    simulated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """A cluster at a site."""

    name: str
    file: str
    image: Image
    network: Network
    nodes: tuple[Node, ...]
    kubernetes: Kubernetes
    ssh: Ssh
    storage: Storage
    gpu: Gpu
    certificates: Certificates
    rancher: Rancher | None
    gitops: GitOps | None
    jupyterhub: JupyterHub | None
    protect: bool
    site: Site
    probe_image: str
    stress_image: str | None

    @property
    def servers(self) -> tuple[Node, ...]:
        """Control-plane nodes in spec order; the first is where a new cluster starts."""
        return tuple(node for node in self.nodes if node.is_server)

    @property
    def agents(self) -> tuple[Node, ...]:
        """Worker nodes in spec order."""
        return tuple(node for node in self.nodes if not node.is_server)

    def by_fleet(self, bundle: str) -> bool:
        """Whether Fleet owns what this bundle installs, instead of gpuctl."""
        return self.gitops is not None and bundle in self.gitops.bundles

    @property
    def endpoint_name(self) -> str:
        """Host part of the Proxmox endpoint, as used in the workspace's name: ``pve.example``."""
        return self.site.proxmox.endpoint.removeprefix("https://").removeprefix("http://").split(":")[0].split("/")[0]

    def node(self, name: str) -> Node:
        """The node of this name; KeyError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
