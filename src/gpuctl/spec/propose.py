"""A first spec from a few answers and, where it could be asked, from what the Proxmox server has; pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError

import yaml

from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.model import Kubernetes
from gpuctl.spec.units import GIB
from gpuctl.spec.versions import gpu_model

IMAGE = "https://cloud-images.ubuntu.com/releases/noble/release-20251026/ubuntu-24.04-server-cloudimg-amd64.img"
KUBERNETES = "v1.35.4+k3s1"
VM_ID_BASES = (9000, 10_000, 11_000, 12_000, 20_000)
THREE_FROM = 96 * GIB
# of a server that could not be asked
WORKER_MEMORY, WORKER_CPUS = 128 * GIB, 16
# a server's share for each worker, control planes included, in GiB
WORKER_LEAST = 16
# tried in this order until they fit, in GiB: (control plane, worker)
DISKS = ((100, 200), (60, 100), (40, 60), (20, 40))
SCRATCH_MOST, SCRATCH_LEAST = 500, 20


@dataclass(frozen=True)
class Answers:
    """What the operator said; "" or None: nothing yet. ``nfs`` as ``SERVER:/PATH``."""

    name: str = ""
    endpoint: str = ""
    ca: str = ""
    token_ref: str = "env:PROXMOX_VE_API_TOKEN"
    node: str = ""
    cidr: str = ""
    gateway: str = ""
    api_vip: str = ""
    ingress_vip: str = ""
    first_address: str = ""
    control_planes: int | None = None
    workers: int | None = None
    gpus_per_worker: int | None = None
    gpu_model: str = ""
    nfs: str = ""
    rancher_host: str = ""
    hub_host: str = ""


@dataclass(frozen=True)
class Storage:
    """A storage of the server that can be used. ``free`` in bytes."""

    content: frozenset[str]
    free: int


@dataclass(frozen=True)
class Server:
    """What the server's node has: bytes of memory and those given to VMs already, threads, storages, the network
    (``10.0.0.2/24``, gateway; or "") of each bridge, PCI ids of its NVIDIA cards, ids of VMs."""

    memory: int
    taken: int
    cpus: int
    storages: Mapping[str, Storage]
    bridges: Mapping[str, tuple[str, str]]
    cards: tuple[str, ...]
    vm_ids: frozenset[int]


@dataclass(frozen=True)
class Proposal:
    """The spec's text, and what the operator should know about it."""

    text: str
    notes: tuple[str, ...]


def completed(answers: Answers, server: Server | None) -> Answers:
    """The answers with everything that follows from the others or from the server."""
    if server is not None:
        cidr, gateway = server.bridges.get(_bridge(answers, server), ("", ""))
        if cidr and not answers.cidr:
            answers = replace(answers, cidr=str(IPv4Interface(cidr).network))
        if gateway and not answers.gateway and IPv4Address(gateway) in _network(answers.cidr):
            answers = replace(answers, gateway=gateway)
        if answers.gpus_per_worker != 0 and (known := _models(server)):
            model = answers.gpu_model or known.most_common(1)[0][0]
            # pairs keep a node useful for what two cards do together, and leave several nodes to lose one of
            each = answers.gpus_per_worker or (2 if known[model] >= 4 and known[model] % 2 == 0 else 1)
            fitting = min(known[model] // each, max(1, _left(server) // WORKER_LEAST))
            workers = fitting if answers.workers is None else answers.workers
            answers = replace(answers, gpu_model=model, gpus_per_worker=each, workers=workers)
        elif answers.workers is None:
            answers = replace(answers, workers=0, gpus_per_worker=0)
    if answers.control_planes is None:
        # three survive the loss of one; all of them on one server only pays where there is room
        answers = replace(answers, control_planes=3 if server is None or server.memory >= THREE_FROM else 1)
    return answers


def missing(answers: Answers) -> tuple[str, ...]:
    """Fields that have to be answered yet, in the order in which they are asked."""
    wanted = ["name", "endpoint", "node", "cidr", "gateway", "api_vip"]
    if answers.rancher_host or answers.hub_host:
        wanted.append("ingress_vip")
    wanted += ["first_address", "workers"]
    if answers.workers != 0:
        wanted.append("gpus_per_worker")
        if answers.gpus_per_worker != 0:
            wanted.append("gpu_model")
    return tuple(field for field in wanted if getattr(answers, field) in ("", None))


def propose(answers: Answers, server: Server | None) -> Proposal:
    """The spec of complete answers. GpuctlError: an address cannot be understood."""
    notes: list[str] = []
    shape = _shape(answers, server, notes)
    return Proposal("\n".join(_lines(answers, server, shape)) + "\n", tuple(notes))


@dataclass(frozen=True)
class _Disks:
    """Sizes in GiB, ``scratch`` 0 for none; and which storage holds what."""

    control: int = DISKS[0][0]
    worker: int = DISKS[0][1]
    scratch: int = 0
    os_store: str = "local-lvm"
    scratch_store: str = "local-lvm"
    image_store: str = "local"


@dataclass(frozen=True)
class _Shape:
    """What the machines get; memory in GiB."""

    control_memory: int
    memory: int
    cpus: int
    reserve: int
    bridge: str
    vm_id_base: int
    disks: _Disks


def _shape(answers: Answers, server: Server | None, notes: list[str]) -> _Shape:
    controls, workers = answers.control_planes or 0, answers.workers or 0
    if server is None:
        memory, cpus = WORKER_MEMORY // GIB, WORKER_CPUS
        return _Shape(16, memory, cpus, 8, "vmbr0", VM_ID_BASES[0], _Disks())
    left = _left(server)
    control_memory = next((size for size in (16, 8) if size * controls * 4 <= left), 4)
    each = max(4, min(1024, (left - control_memory * controls) // workers)) if workers else 0
    cpus = max(2, min(64, (server.cpus - 4 * controls - 2) // workers)) if workers else 0
    known = _models(server)
    if unknown := sorted({card for card in server.cards if not gpu_model(card)}):
        notes.append(f"cards of a model that gpuctl does not know are left out: {', '.join(unknown)}")
    if len(known) > 1:
        others = ", ".join(f"{n} x {model}" for model, n in known.items() if model != answers.gpu_model)
        notes.append(f"other cards are left out, give them a pool of their own: {others}")
    if (over := known[answers.gpu_model] - workers * (answers.gpus_per_worker or 0)) > 0:
        notes.append(f"{over} x {answers.gpu_model} are left over")
    return _Shape(
        control_memory,
        each // 8 * 8 if each >= 32 else each,
        cpus,
        server.memory // GIB - left,
        _bridge(answers, server),
        _vm_id_base(answers, server),
        _disks(controls, workers, server, notes),
    )


def _disks(controls: int, workers: int, server: Server, notes: list[str]) -> _Disks:
    by_room = sorted(server.storages.items(), key=lambda item: (-item[1].free, item[0]))
    for_disks = [name for name, store in by_room if "images" in store.content]
    for_images = [name for name, store in by_room if "import" in store.content]
    if not for_images:
        notes.append("no storage takes the cloud image: pvesm set local --content import,... on the Proxmox host")
    if not for_disks:
        notes.append("no storage takes disks: give one the content 'images', then correct site.proxmox.storage")
        for_disks = ["local-lvm"]
    scratch_store = for_disks[0]
    # the largest for scratch, the next one for the OS, when it has the room
    needs = {sizes: controls * sizes[0] + workers * sizes[1] for sizes in DISKS}
    room = {name: server.storages[name].free * 9 // 10 // GIB if name in server.storages else 0 for name in for_disks}
    second = for_disks[1] if len(for_disks) > 1 and room[for_disks[1]] >= needs[DISKS[-1]] else scratch_store
    sizes = next((sizes for sizes in DISKS if needs[sizes] <= room[second]), DISKS[-1])
    if needs[sizes] > room[second]:
        notes.append(f"{second} has {room[second]} GiB for the disks, they may grow to {needs[sizes]} GiB")
    spare = room[scratch_store] - (needs[sizes] if second == scratch_store else 0)
    scratch = min(SCRATCH_MOST, spare // workers // 10 * 10) if workers else 0
    if scratch < SCRATCH_LEAST:
        scratch = 0
    return _Disks(*sizes, scratch, second, scratch_store, for_images[0] if for_images else "local")


def _left(server: Server) -> int:
    """GiB of memory for the cluster: without what the host itself and its other VMs need."""
    total, taken = server.memory // GIB, -(-server.taken // GIB)
    return total - max(8, total // 16) - taken


def _models(server: Server) -> Counter[str]:
    """Cards by model, of those that are known."""
    return Counter(model for card in server.cards if (model := gpu_model(card)))


def _bridge(answers: Answers, server: Server) -> str:
    """The bridge on the network that was named; else the first that has an address, else the first."""
    names = sorted(server.bridges)
    if answers.cidr:
        lan = _network(answers.cidr)
        for name in names:
            if server.bridges[name][0] and IPv4Interface(server.bridges[name][0]).network == lan:
                return name
    return next((name for name in names if server.bridges[name][0]), names[0] if names else "vmbr0")


def _vm_id_base(answers: Answers, server: Server) -> int:
    lan = _network(answers.cidr)
    parts = [int(address) - int(lan.network_address) for address in _addresses(answers)]
    free = [base for base in VM_ID_BASES if not any(base + part in server.vm_ids for part in parts)]
    return free[0] if free else VM_ID_BASES[0]


def _ranges(lan: IPv4Network) -> str:
    """Those of pods and Services, where the LAN lies in the usual ones."""
    usual = [Kubernetes.model_fields[name].default for name in ("pod_cidr", "service_cidr")]
    if any(lan.overlaps(network) for network in usual):
        for pods, services in (("172.20.0.0/16", "172.21.0.0/16"), ("192.168.0.0/17", "192.168.128.0/17")):
            if not any(lan.overlaps(IPv4Network(one)) for one in (pods, services)):
                return f", pod_cidr: {pods}, service_cidr: {services}"
    return ""


def _network(cidr: str) -> IPv4Network:
    try:
        return IPv4Network(cidr)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise _unclear("--cidr", cidr, "10.0.0.0/24", error) from error


def _addresses(answers: Answers) -> list[IPv4Address]:
    """Of the control planes, then of the workers, one after the other."""
    try:
        first = IPv4Address(answers.first_address)
        return [first + index for index in range((answers.control_planes or 0) + (answers.workers or 0))]
    except (AddressValueError, ValueError) as error:
        raise _unclear("--first-address", answers.first_address, "10.0.0.11", error) from error


def _unclear(option: str, value: str, example: str, error: Exception) -> GpuctlError:
    return GpuctlError(
        f"{option} {value!r} cannot be understood",
        cause=str(error),
        next=f"write it like {example}",
        exit_code=Exit.USAGE,
    )


def _range(addresses: list[IPv4Address]) -> str:
    return f"{addresses[0]}-{addresses[-1]}" if len(addresses) > 1 else str(addresses[0])


def _text(value: str) -> str:
    """As a YAML scalar that is read back as this very text."""
    plain = re.fullmatch(r"[A-Za-z0-9/][-\w./:@+]*", value) and not value.endswith(":")
    return value if plain and yaml.safe_load(value) == value else json.dumps(value)


def _lines(answers: Answers, server: Server | None, shape: _Shape) -> Iterator[str]:
    addresses, disks = _addresses(answers), shape.disks
    controls = answers.control_planes or 0
    yield "# yaml-language-server: $schema=./cluster.schema.json"
    yield "# Every field: gpuctl explain. Completion in editors: gpuctl schema > cluster.schema.json"
    yield "version: 1"
    yield f"name: {_text(answers.name)}"
    yield "site:                      # where"
    yield "  proxmox:"
    yield f"    endpoint: {_text(answers.endpoint)}"
    if answers.ca:
        yield f"    ca: {_text(answers.ca)}"
    yield f"    token: {_text(answers.token_ref)}"
    yield f"    node: {_text(answers.node)}"
    stores = [("os", disks.os_store), ("scratch", disks.scratch_store), ("images", disks.image_store)]
    yield f"    storage: {{{', '.join(f'{kind}: {_text(name)}' for kind, name in stores)}}}"
    yield f"    bridge: {_text(shape.bridge)}"
    if shape.vm_id_base != VM_ID_BASES[0]:
        yield f"    vm_id_base: {shape.vm_id_base}"
    if server is not None:
        has = f"memory: {server.memory // GIB}GiB, reserve: {shape.reserve}GiB, cpus: {server.cpus}"
        yield f"  host: {{{has}, gpus: {len(server.cards)}}}  # reserve: of the host itself and of its other VMs"
    yield "image:                     # put in the checksum that SHA256SUMS beside it has"
    yield "  os: ubuntu-24.04"
    yield f"  url: {IMAGE}"
    yield f"  checksum: sha256:{'0' * 64}"
    yield "network:"
    yield f"  cidr: {_text(answers.cidr)}"
    yield f"  gateway: {_text(answers.gateway)}"
    yield f"  api_vip: {_text(answers.api_vip)}         # free addresses outside of any DHCP range"
    if answers.ingress_vip:
        yield f"  ingress_vip: {_text(answers.ingress_vip)}"
    yield "nodes:"
    yield "  control_plane:"
    yield f"    {{count: {controls}, addresses: {_range(addresses[:controls]) if controls else '[]'}, cpus: 4, " + (
        f"memory: {shape.control_memory}GiB, disk: {disks.control}GiB}}"
    )
    if answers.workers:
        yield "  pools:"
        yield f"    - name: {'wk-gpu' if answers.gpus_per_worker else 'wk'}"
        yield f"      count: {answers.workers}"
        yield f"      addresses: {_range(addresses[controls:])}"
        yield f"      cpus: {shape.cpus}"
        yield f"      memory: {shape.memory}GiB"
        yield f"      disk: {disks.worker}GiB"
        if disks.scratch:
            yield f"      scratch: {disks.scratch}GiB      # its data is not kept"
        if answers.gpus_per_worker:
            yield f"      gpus: {{model: {_text(answers.gpu_model)}, count: {answers.gpus_per_worker}}}"
    ingress = ", ingress: nginx" if answers.rancher_host or answers.hub_host else ""
    yield f"kubernetes: {{version: {KUBERNETES}{ingress}{_ranges(_network(answers.cidr))}}}"
    if answers.nfs or (disks.scratch and answers.workers):
        yield "storage:"
    if answers.nfs:
        server_, _, path = answers.nfs.partition(":")
        yield f"  nfs: {{server: {_text(server_)}, path: {_text(path)}}}"
    if disks.scratch and answers.workers:
        yield "  scratch: {class: fast-scratch}"
    if answers.rancher_host:
        yield "management:"
        yield f"  rancher: {{hostname: {_text(answers.rancher_host)}}}"
    if answers.hub_host:
        yield "jupyterhub:"
        yield f"  hostname: {_text(answers.hub_host)}"
        yield "  # one password for everybody, until there is oauth or ldap: gpuctl explain jupyterhub.auth"
        yield "  auth: {kind: dummy, i_know_that_anybody_can_log_in: true, password: env:HUB_PASSWORD, allow_all: true}"
