"""Addresses and networks."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Loc, Rule


def _addresses(cluster: Cluster) -> Iterator[tuple[Loc, str, IPv4Address]]:
    """Every address that must be a host's own on the LAN: (place, what it is, address)."""
    network = cluster.network
    yield ("network", "gateway"), "the gateway", network.gateway
    yield ("network", "api_vip"), "the API VIP", network.api_vip
    if network.ingress_vip:
        yield ("network", "ingress_vip"), "the ingress VIP", network.ingress_vip
    control = cluster.nodes.control_plane
    for index, address in enumerate(control.addresses):
        yield ("nodes", "control_plane", "addresses"), f"cp{index + 1}", address
    for number, pool in enumerate(cluster.nodes.pools):
        for index, address in enumerate(pool.addresses):
            yield ("nodes", "pools", number, "addresses"), f"{pool.name}{index + 1}", address


def _inside(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    lan = cluster.network.cidr
    for loc, what, address in _addresses(cluster):
        if address not in lan:
            yield loc, f"{what} {address} is outside {lan}", f"choose an address in {lan}"
        elif address in (lan.network_address, lan.broadcast_address):
            yield loc, f"{what} {address} is the network's own or its broadcast address", "choose another address"


def _unique(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    seen: dict[IPv4Address, str] = {}
    all_of_them = list(_addresses(cluster))
    if cluster.storage.nfs:
        all_of_them.append((("storage", "nfs", "server"), "the NFS server", cluster.storage.nfs.server))
    for loc, what, address in all_of_them:
        if address in seen and {what, seen[address]} != {"the NFS server", "the gateway"}:
            yield loc, f"{what} has the address {address} of {seen[address]}", "give each its own address"
        seen.setdefault(address, what)


def _disjoint(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    k8s = cluster.kubernetes
    pairs = (
        (("kubernetes", "pod_cidr"), "the pods' network", k8s.pod_cidr, "the LAN", cluster.network.cidr),
        (("kubernetes", "service_cidr"), "the Services' network", k8s.service_cidr, "the LAN", cluster.network.cidr),
        (("kubernetes", "service_cidr"), "the Services' network", k8s.service_cidr, "the pods' network", k8s.pod_cidr),
    )
    for loc, what, mine, other, theirs in pairs:
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


RULES = (
    Rule("NET-01", "error", "Addresses lie on the LAN", "A host outside its network reaches nothing.", _inside),
    Rule(
        "NET-02", "error", "Addresses are unique", "Two hosts with one address take turns being unreachable.", _unique
    ),
    Rule(
        "NET-03", "error", "Networks are disjoint", "Overlapping ranges send packets to the wrong network.", _disjoint
    ),
    Rule("NET-04", "error", "Ranges have room", "Each node takes a /24 of the pods' network.", _sizes),
)
