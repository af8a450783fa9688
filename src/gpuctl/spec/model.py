"""The shape of cluster.yaml. Descriptions and defaults here are what explain, schema and the reference show."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gpuctl.spec.forms import (
    AbsolutePath,
    Address,
    Addresses,
    AptSource,
    Bridge,
    Checksum,
    Cidr,
    ClassName,
    ContainerImage,
    Domain,
    DriverVersion,
    Duration,
    Email,
    GitBranch,
    GitServer,
    Hostname,
    HostOrAddress,
    HttpsAddress,
    Ingress,
    K3sRelease,
    LinuxUser,
    MountOption,
    MountPoint,
    Name,
    OperatorRelease,
    ProxmoxNode,
    Release,
    Releases,
    Schedule,
    Secret,
    Size,
    SizeOrZero,
    StorageId,
    Taint,
    UserName,
    WebAddress,
    Word,
)


class Part(BaseModel):
    """Unknown keys are errors everywhere."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class ProxmoxStorage(Part):
    os: StorageId = Field("local-lvm", description="Proxmox storage for OS disks.")
    scratch: StorageId = Field("local-lvm", description="Proxmox storage for scratch disks.")
    images: StorageId = Field(
        "local", description="Proxmox storage the cloud image is imported to; needs content 'import'."
    )


class Proxmox(Part):
    endpoint: str = Field(description="The API's address, https only.", examples=["https://pve.example:8006"])
    ca: str | None = Field(None, description="file:PATH of the CA that signed the server's certificate.")
    token: Secret = Field(description="API token user@realm!name=secret, by reference (env:, file:, sops:).")
    node: ProxmoxNode = Field(description="Name of the Proxmox node that carries the VMs.")
    storage: ProxmoxStorage = Field(default_factory=ProxmoxStorage, description="Which storage holds what.")
    bridge: Bridge = Field("vmbr0", description="Bridge that the VMs are plugged into.")
    vm_id_base: int = Field(
        9000, ge=100, le=999_000_000, description="VM ids are this plus the host part of the node's address."
    )
    parallelism: int = Field(
        4, ge=1, le=32, description="VMs made at the same time; 1 avoids lock timeouts on slow storages."
    )


class Host(Part):
    memory: Size | None = Field(None, description="Memory of the Proxmox host, for offline checks.")
    reserve: SizeOrZero = Field(8 << 30, description="Memory left to the host itself (ZFS cache, QEMU overhead).")
    cpus: int | None = Field(None, ge=1, description="Threads of the host.")
    storage: dict[str, Size] = Field(default_factory=dict, description="Size of storages by name.")
    gpus: int | None = Field(None, ge=0, description="NVIDIA cards in the host.")


class OsImageMirror(Part):
    url: WebAddress = Field(description="Where the Proxmox server fetches the cloud image instead of image.url.")
    checksum: Checksum = Field(description="Its checksum.")


class Mirrors(Part):
    terraform_provider: str | None = Field(None, description="Folder that is a Terraform filesystem mirror.")
    k3s: Releases | None = Field(None, description="URL below which K3s releases lie: BASE/VERSION/k3s and its sums.")
    os_image: OsImageMirror | None = Field(None, description="The cloud image inside the site.")
    charts: str | None = Field(None, description="Folder of chart packages (NAME-VERSION.tgz), or an oci:// registry.")
    apt: AptSource | None = Field(None, description="One-line apt source that the hosts use instead of their own.")
    registry: WebAddress | None = Field(
        None, description="Address (http:// or https://) of a registry that mirrors every image under its own name."
    )
    git: GitServer | None = Field(
        None, description="Base address of a Git server used instead of the one of gitops.repo."
    )


class Site(Part):
    proxmox: Proxmox = Field(description="The Proxmox VE server.")
    host: Host = Field(default_factory=Host, description="What the host has, for offline checks; live facts win.")
    mirrors: Mirrors = Field(default_factory=Mirrors, description="Where things come from on an air-gapped site.")
    backend: dict[str, str] = Field(
        default_factory=dict,
        description="Terraform backend: type and its settings. Secrets by reference, or in variables that it reads.",
    )
    simulated: list[str] = Field(default_factory=list, description="What is not real here; every report prints it.")


class Image(Part):
    os: Literal["ubuntu-24.04", "ubuntu-22.04", "debian-12", "debian-13"] = Field(
        "ubuntu-24.04", description="Guest OS; it decides which GPU driver modes work."
    )
    url: WebAddress = Field(
        description="Dated cloud image in qcow2 format.",
        examples=[
            "https://cloud-images.ubuntu.com/releases/noble/release-20251026/ubuntu-24.04-server-cloudimg-amd64.img"
        ],
    )
    checksum: Checksum = Field(description="sha256: or sha512: of the image.")


class Network(Part):
    cidr: Cidr = Field(description="The LAN of the nodes.")
    gateway: Address = Field(description="Default gateway of the nodes.")
    api_vip: Address = Field(description="Virtual IP of the Kubernetes API, moved between servers by keepalived.")
    ingress_vip: Address | None = Field(None, description="Virtual IP of the ingress; without it nothing exposes it.")
    dns: list[Address] = Field(default_factory=list, description="DNS servers of the nodes (default: the gateway).")
    search_domain: Domain = Field("local", description="DNS search domain of the nodes.")
    ntp: list[HostOrAddress] = Field(default_factory=list, description="NTP servers (default: those of the guest OS).")
    vlan: int | None = Field(None, ge=1, le=4094, description="VLAN tag on the bridge.")
    mtu: int | None = Field(None, ge=1280, le=9216, description="MTU of the VMs' interfaces (default: the bridge's).")
    vrrp_router_id: int | None = Field(
        None, ge=1, le=255, description="VRRP router id, unique on the LAN (default: last byte of api_vip)."
    )


class Machine(Part):
    count: int = Field(ge=1, le=2000, description="Number of nodes.")
    addresses: Addresses = Field(description="One address per node: a range or a list.")
    cpus: int = Field(ge=1, le=512, description="Virtual CPUs of each node.")
    memory: Size = Field(description="Memory of each node, pinned.")
    disk: Size = Field(100 << 30, description="OS disk of each node, whole GiB.")
    labels: dict[str, str] = Field(default_factory=dict, description="Kubernetes labels of the nodes.")
    taints: list[Taint] = Field(default_factory=list, description="Kubernetes taints of the nodes.")


class ControlPlane(Machine):
    count: int = Field(3, ge=1, le=7, description="Number of control planes; odd, 3 survive the loss of one.")
    cpus: int = Field(4, ge=2, le=512, description="Virtual CPUs of each control plane.")
    memory: Size = Field(16 << 30, description="Memory of each control plane.")


class Gpus(Part):
    model: str = Field(description="Model of the cards, e.g. a100-pcie-80gb.", examples=["a100-pcie-80gb"])
    count: int = Field(ge=1, le=16, description="Cards per node.")
    sharing: Literal["none", "time-slicing", "mig"] | None = Field(
        None, description="How the cards of this pool are shared (default: gpu.sharing)."
    )
    replicas: int = Field(4, ge=2, le=64, description="Notebooks per card with time-slicing; memory is not divided.")
    mig: str | None = Field(None, description="MIG layout of every card, e.g. all-1g.10gb or all-balanced.")
    devices: list[list[str]] = Field(
        default_factory=list, description="PCI addresses per node, one list a node (default: gpuctl assigns them)."
    )


class Pool(Machine):
    name: Name = Field(description="Name of the pool; its nodes are NAME1, NAME2, ...")
    scratch: Size | None = Field(None, description="Scratch disk of each node, whole GiB; its data is not kept.")
    gpus: Gpus | None = Field(None, description="GPUs of each node.")


class Nodes(Part):
    control_plane: ControlPlane = Field(description="The servers: API and etcd.")
    pools: list[Pool] = Field(default_factory=list, description="Worker pools.")


class Kubernetes(Part):
    version: K3sRelease = Field(description="K3s release.")
    pod_cidr: Cidr = Field(IPv4Network("10.42.0.0/16"), description="Addresses of pods.")
    service_cidr: Cidr = Field(IPv4Network("10.43.0.0/16"), description="Addresses of Services.")
    cni: Literal["flannel"] = Field("flannel", description="Pod network.")
    flannel_backend: Literal["vxlan", "host-gw", "wireguard-native"] = Field("vxlan", description="Flannel's backend.")
    ingress: Ingress = Field("traefik", description="Ingress controller.")
    cluster_domain: Domain = Field("cluster.local", description="DNS domain of the cluster.")
    max_pods: int = Field(110, ge=10, le=500, description="Pods per node.")
    snapshot_schedule: Schedule = Field("0 */6 * * *", description="When etcd snapshots are taken (cron).")
    snapshot_retention: int = Field(12, ge=1, le=1000, description="Snapshots kept per server.")
    tls_san: list[HostOrAddress] = Field(default_factory=list, description="More names in the API's certificate.")


class Ssh(Part):
    user: LinuxUser = Field("gpuctl", description="User that cloud-init makes.")
    authorized_keys: list[str] = Field(default_factory=list, description="Public keys beside gpuctl's own.")


class Nfs(Part):
    server: Address = Field(description="NFS server; external, destroy never touches it.")
    path: AbsolutePath = Field(description="Export.")
    class_: ClassName = Field("nfs-client", alias="class", description="Name of the storage class.")
    default: bool = Field(True, description="Whether it is the default class.")
    provisioner: Literal["csi", "subdir"] = Field(
        "csi", description="csi-driver-nfs, or the old nfs-subdir-external-provisioner when its volumes are adopted."
    )
    mount_options: list[MountOption] = Field(
        default_factory=lambda: ["nfsvers=4.1", "hard"], description="Mount options of the volumes."
    )
    reclaim: Literal["Retain", "Delete"] = Field("Delete", description="What becomes of a volume with its claim.")


class Scratch(Part):
    class_: ClassName = Field("fast-scratch", alias="class", description="Name of the storage class.")
    mount: MountPoint = Field("/var/lib/gpuctl/scratch", description="Where the disk is mounted.")


class Local(Part):
    class_: ClassName = Field("local-disk", alias="class", description="Name of the storage class.")
    path: MountPoint = Field("/var/lib/gpuctl/local", description="Folder on every node's OS disk.")
    default: bool | None = Field(None, description="Whether it is the default class (default: when NFS is not).")


class Storage(Part):
    nfs: Nfs | None = Field(None, description="NFS storage class.")
    scratch: Scratch | None = Field(None, description="Storage class on the scratch disks.")
    local: Local = Field(
        default_factory=Local, description="Storage class on the OS disks: databases must not lie on NFS."
    )


class Gpu(Part):
    driver: Literal["operator", "preinstalled"] = Field("operator", description="Who installs the driver.")
    sharing: Literal["none", "time-slicing", "mig"] = Field("none", description="How cards are shared.")
    operator: OperatorRelease | None = Field(
        None,
        description="GPU Operator release (default: the newest that supports the Kubernetes version).",
    )
    driver_version: DriverVersion | None = Field(
        None, description="NVIDIA driver (default: the Operator's own choice)."
    )
    proof_image: ContainerImage = Field(
        "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0",
        description="Image with a CUDA program that proves a card; it must have a shell.",
    )
    proof_command: str = Field(
        "/cuda-samples/vectorAdd", min_length=1, description="That program; exit code 0 proves the card."
    )


class PrivateCa(Part):
    certificate: str = Field(description="file:PATH of the CA's certificate (PEM).")
    key: Secret = Field(description="Its private key (PEM), by reference.")


class Certificates(Part):
    issuer: Literal["self-signed", "ca", "letsencrypt"] = Field(
        "self-signed", description="Who signs the certificates of Rancher and the hub."
    )
    ca: PrivateCa | None = Field(None, description="The private CA, for issuer ca.")
    email: Email | None = Field(None, description="Contact for Let's Encrypt.")


class Rancher(Part):
    hostname: Hostname = Field(description="Host name of Rancher.", examples=["rancher.example"])
    replicas: int = Field(3, ge=1, le=9, description="Replicas of Rancher.")
    version: Release | None = Field(
        None,
        description="Rancher release (default: one that supports the Kubernetes version).",
    )


class GitCredentials(Part):
    username: Word | None = Field(None, description="User name for https.")
    password: Secret | None = Field(None, description="Password or token for https, by reference.")
    ssh_key: Secret | None = Field(None, description="Private key for ssh, by reference.")
    known_hosts: str | None = Field(None, description="file:PATH of the host keys that ssh accepts.")


Bundle = Literal["jupyterhub", "storageclasses", "policies", "monitoring", "tests", "gpu-operator"]


class GitOps(Part):
    repo: str = Field(description="Git repository that Fleet follows.")
    branch: GitBranch = Field("main", description="Branch.")
    path: str = Field(description="Folder of this cluster in it.")
    credentials: GitCredentials | None = Field(None, description="How Fleet and gpuctl reach it.")
    ca: str | None = Field(None, description="file:PATH of the CA of an https server.")
    polling: Duration = Field(15, description="How often Fleet looks at the repository.")
    bundles: list[Bundle] = Field(
        ["storageclasses", "policies", "jupyterhub"],
        description="What Fleet installs; the rest stays with gpuctl.",
    )


class Management(Part):
    certificates: Certificates = Field(default_factory=Certificates, description="cert-manager.")
    rancher: Rancher | None = Field(None, description="Rancher.")
    gitops: GitOps | None = Field(None, description="Fleet, which Rancher brings.")


class OAuth(Part):
    client_id: Word = Field(description="Client id.", examples=["jupyterhub"])
    client_secret: Secret = Field(description="Client secret, by reference.")
    authorize_url: HttpsAddress = Field(description="Where users log in.")
    token_url: HttpsAddress = Field(description="Where codes become tokens.")
    userdata_url: HttpsAddress = Field(description="Who the user is.")
    username_claim: Word = Field("preferred_username", description="Field of the user's data that is the name.")
    scopes: list[Word] = Field(default_factory=lambda: ["openid"], description="Scopes asked for.")


class Ldap(Part):
    server: HostOrAddress = Field(description="LDAP server; TLS is used always.", examples=["ldap.example"])
    port: int | None = Field(None, ge=1, le=65535, description="Port (default: 636).")
    bind_dn_template: list[str] = Field(
        default_factory=list,
        description="DN of a user, with {username} in it.",
        examples=["uid={username},ou=people,dc=example"],
    )
    search_base: str | None = Field(None, description="Where users are looked up when no template fits.")
    user_attribute: Word = Field("uid", description="Attribute that is the user name.")
    search_user: str | None = Field(None, description="DN that may look users up.")
    search_password: Secret | None = Field(None, description="Its password, by reference.")
    allowed_groups: list[str] = Field(default_factory=list, description="DNs of groups whose members may log in.")


class Auth(Part):
    kind: Literal["dummy", "oauth", "ldap"] = Field(description="How users log in.")
    i_know_that_anybody_can_log_in: bool = Field(False, description="Acknowledges what kind dummy means.")
    password: Secret | None = Field(None, description="For kind dummy: one password for everybody, by reference.")
    oauth: OAuth | None = Field(None, description="For kind oauth.")
    ldap: Ldap | None = Field(None, description="For kind ldap.")
    admins: list[UserName] = Field(default_factory=list, description="Users who administer the hub.")
    allowed_users: list[UserName] = Field(default_factory=list, description="Users who may log in.")
    allow_all: bool = Field(False, description="Whether everybody who can authenticate may log in.")


class Profile(Part):
    name: Name = Field(description="Name of the profile.")
    title: str | None = Field(None, description="What users read (default: made of its resources).")
    gpus: int = Field(0, ge=0, le=16, description="GPUs of a notebook (time-slices, where cards are shared).")
    slices: dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(
        default_factory=dict, description="MIG slices by profile, e.g. {1g.10gb: 1}."
    )
    cpus: float | None = Field(None, gt=0, description="CPU limit.")
    memory: Size | None = Field(None, description="Memory limit.")
    image: ContainerImage | None = Field(None, description="Notebook image (default: jupyterhub.image).")


class Home(Part):
    size: Size = Field(10 << 30, description="Size of a user's home.")
    class_: ClassName | None = Field(None, alias="class", description="Its storage class (default: the default class).")


class HubScratch(Part):
    size: Size = Field(100 << 30, description="Size of a notebook's scratch volume; it goes with the notebook.")
    mount: MountPoint = Field("/scratch", description="Where notebooks see it.")


class Quota(Part):
    notebooks: int | None = Field(None, ge=1, description="Notebooks at the same time.")
    gpus: int | None = Field(None, ge=0, description="GPUs of all notebooks together.")
    cpus: float | None = Field(None, gt=0, description="CPU limits of all notebooks together.")
    memory: Size | None = Field(None, description="Memory limits of all notebooks together.")
    storage: Size | None = Field(None, description="Homes and scratch volumes together.")


class Culling(Part):
    idle: Duration = Field(3600, description="Idle notebooks are stopped after this time.")
    every: Duration = Field(600, description="How often the hub looks for idle ones.")


class JupyterHub(Part):
    hostname: Hostname = Field(description="Host name of the hub.")
    auth: Auth = Field(description="Authentication.")
    version: Release | None = Field(
        None,
        description="Release of the chart Zero to JupyterHub (default: the newest known).",
    )
    image: ContainerImage = Field(
        "quay.io/jupyter/scipy-notebook:2025-10-20", description="Notebook image of profiles that name none."
    )
    profiles: list[Profile] = Field(
        default_factory=list,
        description="What users can choose, the default first (default: no GPU, then what the nodes' cards allow).",
    )
    home: Home = Field(default_factory=Home, description="Users' homes.")
    scratch: HubScratch | None = Field(None, description="A volume on the node's scratch disk for each notebook.")
    shm: Size = Field(1 << 30, description="/dev/shm of a notebook, which PyTorch's loaders share; counts as memory.")
    culling: Culling = Field(default_factory=Culling, description="Stopping idle notebooks.")
    quota: Quota = Field(default_factory=Quota, description="Limits of all notebooks together.")
    start_timeout: Duration = Field(1800, description="How long a notebook may take to start; images are large.")


class Cluster(Part):
    version: Literal[1] = Field(description="Version of this format: 1.")
    name: Name = Field(description="Name of the cluster.", examples=["homelab"])
    site: Site = Field(description="Where: the Proxmox server; --site FILE replaces it whole.")
    image: Image = Field(description="Cloud image of the VMs.")
    network: Network = Field(description="The LAN.")
    nodes: Nodes = Field(description="The VMs.")
    kubernetes: Kubernetes = Field(description="K3s.")
    ssh: Ssh = Field(default_factory=Ssh, description="How gpuctl logs in to the hosts.")
    storage: Storage = Field(default_factory=Storage, description="Storage classes.")
    gpu: Gpu = Field(default_factory=Gpu, description="GPU settings of the whole cluster.")
    management: Management = Field(default_factory=Management, description="Rancher and Fleet.")
    jupyterhub: JupyterHub | None = Field(None, description="JupyterHub.")
    protect: bool = Field(False, description="true refuses destroy.")
    probe_image: ContainerImage = Field(
        "docker.io/rancher/mirrored-library-busybox:1.37.0", description="Image of verify's probe pods."
    )
    stress_image: ContainerImage | None = Field(
        None,
        description="Image of verify --gpu-stress: a shell and any of nvbandwidth, nccl-tests (all_reduce_perf), DCGM "
        "(dcgmi, nv-hostengine) and PyTorch; what needs a tool that it lacks stays unknown.",
    )
