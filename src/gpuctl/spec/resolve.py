"""From the model to the resolved spec, and the resolved spec as YAML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import yaml

from gpuctl.spec import forms, model, units
from gpuctl.spec import resolve_services as services
from gpuctl.spec import resolved as r
from gpuctl.spec.versions import newest_for

At = Callable[[tuple[str | int, ...]], r.SpecPath]
SIZES = {"memory", "disk", "scratch", "reserve", "home_size", "size", "shm", "storage"}
DURATIONS = {"culling_idle", "culling_every", "polling", "start_timeout"}


def resolve(cluster: model.Cluster, at: At, site_folder: Path) -> r.Resolved:
    """Every default explicit, every node expanded. ``at`` finds positions; relative files are of ``site_folder``."""
    network = cluster.network
    nodes = [
        _node(cluster, cluster.nodes.control_plane, "cp", index, ("nodes", "control_plane"), at)
        for index in range(min(cluster.nodes.control_plane.count, len(cluster.nodes.control_plane.addresses)))
    ]
    for number, pool in enumerate(cluster.nodes.pools):
        nodes += [
            _node(cluster, pool, pool.name, index, ("nodes", "pools", number), at)
            for index in range(min(pool.count, len(pool.addresses)))
        ]
    storage = services.storage(cluster.storage)
    management = cluster.management
    folder = services.Folder(Path(at(()).file).parent)
    return r.Resolved(
        name=cluster.name,
        file=at(()).file,
        image=r.Image(cluster.image.os, cluster.image.url, *cluster.image.checksum),  # type: ignore[arg-type]
        network=r.Network(
            network.cidr,
            network.gateway,
            network.api_vip,
            network.ingress_vip,
            tuple(network.dns) or (network.gateway,),
            network.search_domain,
            tuple(network.ntp),
            network.vlan,
            network.mtu,
            network.vrrp_router_id or (int(network.api_vip) & 255) or 1,
        ),
        nodes=tuple(nodes),
        kubernetes=r.Kubernetes(
            **{**dict(cluster.kubernetes), "tls_san": tuple(cluster.kubernetes.tls_san)},
        ),
        ssh=r.Ssh(cluster.ssh.user, tuple(cluster.ssh.authorized_keys)),
        storage=storage,
        gpu=r.Gpu(
            cluster.gpu.driver,
            cluster.gpu.operator or newest_for("gpu_operator_for", cluster.kubernetes.version),
            cluster.gpu.driver_version,
            cluster.gpu.proof_image,
            cluster.gpu.proof_command,
        ),
        certificates=services.certificates(management.certificates, folder),
        rancher=services.rancher(management.rancher, cluster.kubernetes.version),
        gitops=services.gitops(management.gitops, folder, cluster.site.mirrors.git),
        jupyterhub=services.jupyterhub(cluster.jupyterhub, storage, tuple(nodes), folder),
        protect=cluster.protect,
        site=_site(cluster.site, cluster.image.os, site_folder),
        probe_image=cluster.probe_image,
        stress_image=cluster.stress_image,
    )


def _node(
    cluster: model.Cluster,
    machine: model.Machine,
    prefix: str,
    index: int,
    loc: tuple[str | int, ...],
    at: At,
) -> r.Node:
    address = machine.addresses[index]
    pool = machine if isinstance(machine, model.Pool) else None
    gpus = None
    if pool and pool.gpus:
        devices = pool.gpus.devices[index] if index < len(pool.gpus.devices) else []
        sharing = pool.gpus.sharing or cluster.gpu.sharing
        gpus = r.NodeGpus(
            pool.gpus.model,
            pool.gpus.count,
            sharing,
            pool.gpus.replicas if sharing == "time-slicing" else 1,
            (pool.gpus.mig or "") if sharing == "mig" else "",
            tuple(devices),
        )
    return r.Node(
        name=f"{prefix}{index + 1}",
        role="worker" if pool else "control_plane",
        pool=pool.name if pool else "control-plane",
        vm_id=cluster.site.proxmox.vm_id_base + int(address) - int(cluster.network.cidr.network_address),
        address=address,
        cpus=machine.cpus,
        memory=machine.memory,
        disk=machine.disk,
        scratch=pool.scratch if pool else None,
        gpus=gpus,
        labels=tuple(sorted(machine.labels.items())),
        taints=tuple(r.Taint(*taint) for taint in machine.taints),  # type: ignore[arg-type]
        source=at(loc),
    )


def _site(site: model.Site, os: str, folder: Path) -> r.Site:
    proxmox, mirrors, files = site.proxmox, site.mirrors, services.Folder(folder)
    image = mirrors.os_image
    return r.Site(
        proxmox=r.Proxmox(
            endpoint=proxmox.endpoint.rstrip("/"),
            ca=files.file(proxmox.ca),
            token=files.known_secret(proxmox.token),
            node=proxmox.node,
            storage=r.StoragePools(**dict(proxmox.storage)),
            bridge=proxmox.bridge,
            vm_id_base=proxmox.vm_id_base,
            parallelism=proxmox.parallelism,
        ),
        host=r.HostCapacity(
            site.host.memory,
            site.host.reserve,
            site.host.cpus,
            tuple(sorted(site.host.storage.items())),
            site.host.gpus,
        ),
        mirrors=r.Mirrors(
            files.path(mirrors.terraform_provider) if mirrors.terraform_provider else None,
            mirrors.k3s,
            r.Image(os, image.url, *image.checksum) if image else None,  # type: ignore[arg-type]
            mirrors.apt,
            mirrors.charts
            if mirrors.charts is None or mirrors.charts.startswith("oci://")
            else files.path(mirrors.charts),
            mirrors.registry.rstrip("/") if mirrors.registry else None,
            mirrors.git.rstrip("/") if mirrors.git else None,
        ),
        backend=tuple((name, _setting(name, value, files)) for name, value in sorted(site.backend.items())),
        simulated=tuple(site.simulated),
    )


def _setting(name: str, value: str, files: services.Folder) -> str | r.SecretRef:
    try:
        secret = forms.backend_secret(name, value)
    except ValueError:
        return value  # refused by a rule
    return files.known_secret(secret) if secret else value


def dump(resolved: r.Resolved) -> str:
    """The resolved spec as YAML."""
    return yaml.safe_dump(plain(resolved), sort_keys=False, width=120)


def plain(resolved: r.Resolved) -> dict[str, Any]:
    """The resolved spec as plain values: sizes with units, secrets as their references, nodes one by one."""
    values: dict[str, Any] = _plain(resolved, "")
    return values


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, r.SpecPath):
        return str(value)
    if isinstance(value, (r.SecretRef, r.Taint)):
        return str(value)
    if is_dataclass(value):
        return {
            # pairs are a mapping, also when there are none
            f.name: _mapping(getattr(value, f.name), f.name)
            if str(f.type).startswith("tuple[tuple[")
            else _plain(getattr(value, f.name), f.name)
            for f in fields(value)
        }
    if isinstance(value, tuple):
        return [_plain(part, "") for part in value]
    if isinstance(value, (IPv4Address, IPv4Network)):
        return str(value)
    if name in SIZES and isinstance(value, int):
        return units.show_size(value)
    if name in DURATIONS:
        return units.show_duration(value)
    return value


def _mapping(pairs: tuple[tuple[str, Any], ...], name: str) -> dict[str, Any]:
    return {key: units.show_size(part) if name == "storage" else _plain(part, "") for key, part in pairs}
