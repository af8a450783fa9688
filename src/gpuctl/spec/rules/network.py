"""Addresses and networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule, machines

# the bridge's own address is the first of a node's /24
PODS_OF_A_24 = 253
OVERHEAD = {"vxlan": 50, "wireguard-native": 80, "host-gw": 0}
# every IPv6 link must carry as much, so software takes it for granted
SMALLEST_MTU = 1280
ETHERNET_MTU = 1500
# of the site, and one machine may well be several of them
OTHERS = {"the gateway", "the NFS server", "the Proxmox server"}
RESERVED = {
    IPv4Network("0.0.0.0/8"): "means this host",
    IPv4Network("127.0.0.0/8"): "is loopback",
    IPv4Network("169.254.0.0/16"): "is link-local",
    IPv4Network("224.0.0.0/4"): "is multicast",
    IPv4Network("240.0.0.0/4"): "is reserved",
}


def _addresses(cluster: Cluster) -> Iterator[tuple[Loc, str, IPv4Address]]:
    """Every address that must be a host's own on the LAN: (place, what it is, address)."""
    network = cluster.network
    yield ("network", "gateway"), "the gateway", network.gateway
    yield from _own(cluster)


def _own(cluster: Cluster) -> Iterator[tuple[Loc, str, IPv4Address]]:
    """Those of them that the cluster itself has."""
    network = cluster.network
    yield ("network", "api_vip"), "the API VIP", network.api_vip
    if network.ingress_vip:
        yield ("network", "ingress_vip"), "the ingress VIP", network.ingress_vip
    for loc, prefix, machine in machines(cluster):
        for index, address in enumerate(machine.addresses):
            yield (*loc, "addresses"), f"{prefix}{index + 1}", address


def _networks(cluster: Cluster) -> tuple[tuple[Loc, str, IPv4Network], ...]:
    return (
        (("network", "cidr"), "the LAN", cluster.network.cidr),
        (("kubernetes", "pod_cidr"), "the pods' network", cluster.kubernetes.pod_cidr),
        (("kubernetes", "service_cidr"), "the Services' network", cluster.kubernetes.service_cidr),
    )


def _inside(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    lan = cluster.network.cidr
    for loc, what, address in _addresses(cluster):
        if address not in lan:
            yield loc, f"{what} {address} is outside {lan}", f"choose an address in {lan}"
        elif address in (lan.network_address, lan.broadcast_address):
            yield loc, f"{what} {address} is the network's own or its broadcast address", "choose another address"


def _unique(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    seen: dict[IPv4Address, str] = {}
    all_of_them = list(_addresses(cluster))
    if cluster.storage.nfs:
        all_of_them.append((("storage", "nfs", "server"), "the NFS server", cluster.storage.nfs.server))
    with suppress(ValueError):  # the endpoint has a name
        server = IPv4Address(resolved.endpoint_name)
        all_of_them.append((("site", "proxmox", "endpoint"), "the Proxmox server", server))
    for loc, what, address in all_of_them:
        if address in seen and not {what, seen[address]} <= OTHERS:
            yield loc, f"{what} has the address {address} of {seen[address]}", "give each its own address"
        seen.setdefault(address, what)


def _disjoint(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    lan, pods, services = _networks(cluster)
    for (loc, what, mine), (_loc, other, theirs) in ((pods, lan), (services, lan), (services, pods)):
        if mine.overlaps(theirs):
            yield loc, f"{what} {mine} overlaps {other} {theirs}", "choose a private range that nothing else uses"


def _sizes(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    pods = cluster.kubernetes.pod_cidr
    room = 1 << max(0, 24 - pods.prefixlen)
    if pods.prefixlen > 24 or len(resolved.nodes) > room:
        needed = max(0, (len(resolved.nodes) - 1).bit_length())
        yield (
            ("kubernetes", "pod_cidr"),
            f"{pods} has /24 ranges for {room if pods.prefixlen <= 24 else 0} nodes, "
            f"the cluster has {len(resolved.nodes)}",
            f"use a /{24 - needed} or larger",
        )
    if cluster.kubernetes.service_cidr.prefixlen > 24:
        yield ("kubernetes", "service_cidr"), "fewer than 256 Service addresses", "use a /24 or larger"


def _reserved(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, what, network in _networks(cluster):
        for reserved, meaning in RESERVED.items():
            if network.overlaps(reserved):
                yield (
                    loc,
                    f"{what} {network} overlaps {reserved}, which {meaning}",
                    "choose a range of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
                )


def _public(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for loc, what, network in _networks(cluster)[1:]:
        if network.is_global and not any(network.overlaps(reserved) for reserved in RESERVED):
            yield (
                loc,
                f"{what} {network} belongs to somebody on the internet, whom pods could not reach",
                "choose a range of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
            )


def _servers(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    """DNS and NFS servers: they are others' hosts, so they may lie outside the LAN."""
    lan, *clusters = _networks(cluster)
    own = {address: what for _loc, what, address in _own(cluster)}
    servers: list[tuple[Loc, str, IPv4Address]] = [
        (("network", "dns", number), "the DNS server", address) for number, address in enumerate(cluster.network.dns)
    ]
    dns = len(servers)
    if cluster.storage.nfs:
        servers.append((("storage", "nfs", "server"), "the NFS server", cluster.storage.nfs.server))
    for number, (loc, what, address) in enumerate(servers):
        meaning = next((meaning for network, meaning in RESERVED.items() if address in network), None)
        if meaning:
            yield (
                loc,
                f"{what} {address} cannot be one: the address {meaning}",
                "give the server's address on a network",
            )
        elif address in (lan[2].network_address, lan[2].broadcast_address):
            yield loc, f"{what} {address} is the LAN's own or its broadcast address", "give the server's address"
        elif address not in lan[2]:
            for _loc, inside, network in clusters:
                if address in network:
                    wrong = f"{what} {address} is inside {inside} {network}: packets to it would not leave the cluster"
                    yield loc, wrong, "give a server outside it, or choose another range for the cluster"
        elif number < dns and address in own:  # NET-02 says it of the NFS server
            yield loc, f"{what} {address} is {own[address]}, where nothing answers DNS", "give a resolver of the site"


def _pods(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if cluster.kubernetes.max_pods > PODS_OF_A_24:
        yield (
            ("kubernetes", "max_pods"),
            f"a node's /24 has addresses for {PODS_OF_A_24} pods, not for {cluster.kubernetes.max_pods}",
            f"{PODS_OF_A_24} at most",
        )


def _small_mtu(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    mtu, backend = cluster.network.mtu, cluster.kubernetes.flannel_backend
    if mtu is not None and mtu - OVERHEAD[backend] < SMALLEST_MTU:
        yield (
            ("network", "mtu"),
            f"pods would get {mtu - OVERHEAD[backend]} bytes: {backend} takes {OVERHEAD[backend]} of {mtu}",
            f"{SMALLEST_MTU + OVERHEAD[backend]} at least, or flannel_backend: host-gw, which takes none",
        )


def _large_mtu(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    mtu, bridge = cluster.network.mtu, cluster.site.proxmox.bridge
    if mtu is not None and mtu > ETHERNET_MTU:
        yield (
            ("network", "mtu"),
            f"no VM starts while the MTU of {bridge} is less than {mtu}; a bridge has {ETHERNET_MTU} unless it is set",
            f"look at {bridge}, its ports and the switch, or leave network.mtu out and take the bridge's",
        )


def _router_id(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    network = cluster.network
    if network.vrrp_router_id is None and int(network.api_vip) & 255 == 0:
        yield (
            ("network", "api_vip"),
            f"{network.api_vip} ends in 0, which is no VRRP router id, so 1 is taken, which routers often have",
            "set network.vrrp_router_id to one that is free on the LAN",
        )


RULES = (
    Rule(
        "NET-01", "error", "Addresses lie on the LAN", "A host outside its network reaches nothing.", _inside,
        "RFC 1122, 3.3.1",
    ),
    Rule(
        "NET-02", "error", "Addresses are unique", "Two hosts with one address take turns being unreachable.", _unique,
        "RFC 5227",
    ),
    Rule(
        "NET-03", "error", "Networks are disjoint", "Overlapping ranges send packets to the wrong network.", _disjoint,
        "Kubernetes docs: cluster networking",
    ),
    Rule(
        "NET-04", "error", "Ranges have room", "Each node takes a /24 of the pods' network.", _sizes,
        "K3s docs: requirements (cluster-cidr)",
    ),
    Rule(
        "NET-05", "error", "No reserved ranges", "Hosts do not route them, or mean something else by them.", _reserved,
        "RFC 6890",
    ),
    Rule(
        "NET-06", "warning", "Pods and Services have private addresses", "The cluster's routes hide the internet's.",
        _public, "RFC 1918",
    ),
    Rule(
        "NET-07", "error", "DNS and NFS servers can be reached", "Without names or homes nothing starts.", _servers,
        "RFC 6890; Kubernetes docs: cluster networking",
    ),
    Rule(
        "NET-08", "error", "Every pod gets an address", "The last pods of a full node would not start.", _pods,
        "K3s docs: requirements (cluster-cidr)",
    ),
    Rule(
        "NET-09", "warning", "The pods' MTU is enough", "IPv6 and tunnels take 1280 bytes for granted.", _small_mtu,
        "RFC 8200, 5; flannel's backends vxlan and wireguard",
    ),
    Rule(
        "NET-10", "note", "The MTU is no larger than the bridge's", "Proxmox refuses to start such a VM.", _large_mtu,
        "Proxmox VE: QemuServer.pm, print_netdevice_full",
    ),
    Rule(
        "NET-11", "note", "The VRRP router id is the cluster's alone", "Routers with one id fight for its address.",
        _router_id, "RFC 5798, 5.2.3",
    ),
)  # fmt: skip
