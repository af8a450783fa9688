"""What each host is to become: the inventory with the parameters of gpuctl_host and gpuctl_k3s. Pure.

Facts about K3s' keys: https://docs.k3s.io/cli/server and /cli/agent; about its ports: /installation/requirements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import yaml

from gpuctl.spec.resolved import Node, Resolved

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
SCRATCH_DEVICE = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_scratch"
SCRATCH_LABEL = "gpuctl-scratch"
FOLDER = "/etc/gpuctl"
CHECK = f"{FOLDER}/api-alive"
FIREWALL = f"{FOLDER}/firewall.nft"
KEEPALIVED = "/etc/keepalived/keepalived.conf"
# what a kubelet with protect-kernel-defaults insists on, and routing
SYSCTLS = {
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "net.ipv4.ip_forward": "1",
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
}
# K3s loads overlay and br_netfilter by itself
MODULES = ({"name": "nf_conntrack", "evidence": "/proc/sys/net/netfilter"},)
# lines of K3s' journal after which waiting is pointless
FATAL = (
    "CA hash does not match",
    "token CA hash",
    "bootstrap data already found and encrypted with different token",
    "critical configuration",
    "unknown flag",
    "flag provided but not defined",
)


@dataclass(frozen=True)
class Observed:
    """What was seen on a host. ``interface`` carries its address; ``data``: an etcd database exists there.

    ``founder``: its configuration started the cluster. ``ca_hash``: of the cluster it belongs to, "" for none.
    ``member``: it has joined a cluster before (it has a node password); ``version``: the K3s it runs, "" before that.
    ``settings``: of a server with data, the keys of its configuration that last as long as the cluster.
    """

    interface: str
    mac: str
    reboot: bool = False
    data: bool = False
    founder: bool = False
    member: bool = False
    ca_hash: str = ""
    snapshots: int = 0
    version: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def founder(resolved: Resolved, observed: Mapping[str, Observed]) -> str:
    """The server whose configuration says cluster-init: the one that did, else the first of a cluster without data.

    "" when there is a cluster but its founder was rebuilt: then every server joins.
    """
    for node in resolved.servers:
        seen = observed.get(node.name)
        if seen and seen.founder and seen.data:
            return node.name
    if any(seen.data for seen in observed.values()):
        return ""
    return resolved.servers[0].name


def inventory(resolved: Resolved, observed: Mapping[str, Observed], *, secrets: str) -> dict[str, Any]:
    """Ansible's inventory. ``secrets``: the folder that the tokens are looked up in when a playbook runs."""
    first = founder(resolved, observed)
    hashes = sorted({seen.ca_hash for seen in observed.values() if seen.ca_hash and seen.data})
    macs = {observed[n.name].mac for n in resolved.servers if n.name in observed and observed[n.name].mac}

    def group(nodes: Sequence[Node]) -> dict[str, Any]:
        return {
            "hosts": {
                node.name: _host(resolved, node, observed.get(node.name, Observed("eth0", "")), first, sorted(macs))
                for node in nodes
            }
        }

    return {
        "all": {
            "children": {"cluster": {"children": {"servers": {}, "agents": {}}}},
            "vars": {
                "ansible_user": resolved.ssh.user,
                "ansible_become_method": "sudo",
                "gpuctl_ca_hash": hashes[0] if hashes else "",
                "gpuctl_server_token": f"{{{{ lookup('file', '{secrets}/server-token') }}}}",
                "gpuctl_agent_token": f"{{{{ lookup('file', '{secrets}/agent-token') }}}}",
            },
        },
        # the founder first: servers are run in this order
        "servers": group(sorted(resolved.servers, key=lambda node: node.name != first)),
        "agents": group(resolved.agents),
    }


def _host(resolved: Resolved, node: Node, seen: Observed, first: str, macs: Sequence[str]) -> dict[str, Any]:
    return {
        "ansible_host": str(node.address),
        "gpuctl_reboot": seen.reboot,
        "gpuctl_prepare": literal(prepare(resolved, node, seen.interface, macs)),
        "gpuctl_k3s": literal(k3s(resolved, node, seen.interface, founding=node.name == first)),
    }


def literal(value: Any) -> Any:
    """The value, marked wherever Ansible would take text of the spec for a template and run what stands in it."""
    if isinstance(value, dict):
        return {key: literal(part) for key, part in value.items()}
    if isinstance(value, list):
        return [literal(part) for part in value]
    template = isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))
    return {"__ansible_unsafe": value} if template else value


def prepare(resolved: Resolved, node: Node, interface: str, macs: Sequence[str]) -> dict[str, Any]:
    """``desired`` of gpuctl_host."""
    mirrors = resolved.site.mirrors
    source = mirrors.k3s or RELEASES
    server = node.is_server
    files = [
        _file("/etc/sysctl.d/90-gpuctl.conf", "".join(f"{name} = {value}\n" for name, value in SYSCTLS.items())),
        _file("/etc/modules-load.d/gpuctl.conf", "".join(f"{module['name']}\n" for module in MODULES)),
        _file("/etc/systemd/journald.conf.d/gpuctl.conf", "[Journal]\nStorage=persistent\nSystemMaxUse=1G\n"),
        _file(
            "/etc/ssh/sshd_config.d/00-gpuctl.conf",
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
        ),
        _file(FIREWALL, firewall(resolved, node, interface)),
        _file("/etc/systemd/system/gpuctl-firewall.service", FIREWALL_UNIT),
    ]
    units: list[dict[str, Any]] = [
        _unit("systemd-journald.service", ["/etc/systemd/journald.conf.d/gpuctl.conf"], enabled=False),
        _unit("ssh.service", ["/etc/ssh/sshd_config.d/00-gpuctl.conf"], verb="reload"),
        _unit(
            "gpuctl-firewall.service",
            [FIREWALL, "/etc/systemd/system/gpuctl-firewall.service"],
            proof=["nft", "list", "table", "inet", "gpuctl"],
        ),
        _unit("qemu-guest-agent.service", [], enabled=False),
    ]
    if resolved.network.ntp:
        path = "/etc/systemd/timesyncd.conf.d/gpuctl.conf"
        files.append(_file(path, f"[Time]\nNTP={' '.join(resolved.network.ntp)}\n"))
        units.append(_unit("systemd-timesyncd.service", [path]))
    if server:
        files += [_file(CHECK, API_ALIVE, "0755"), _file(KEEPALIVED, keepalived(resolved, node, interface), "0600")]
        units.append(_unit("keepalived.service", [KEEPALIVED, CHECK]))
    scratch = None
    if node.scratch and resolved.storage.scratch:
        scratch = {"device": SCRATCH_DEVICE, "label": SCRATCH_LABEL}
        mount = resolved.storage.scratch.mount
        unit = f"{mount.strip('/').replace('-', chr(92) + 'x2d').replace('/', '-')}.mount"
        files.append(_file(f"/etc/systemd/system/{unit}", MOUNT_UNIT.format(device=SCRATCH_DEVICE, mount=mount)))
        units.append(_unit(unit, [f"/etc/systemd/system/{unit}"], proof=["mountpoint", "-q", mount]))
    return {
        "node": node.name,
        "packages": [
            "curl",
            "nftables",
            "qemu-guest-agent",
            *(["keepalived"] if server else []),
            *_nfs_packages(resolved),
        ],
        "apt_source": mirrors.apt or "",
        "hold": ["linux-image-*", "linux-headers-*", "linux-modules-*"],
        "files": files,
        "blocks": [],
        "modules": [dict(module) for module in MODULES],
        "sysctls": dict(SYSCTLS),
        "scratch": scratch,
        "k3s": {
            "version": resolved.kubernetes.version,
            "source": f"file://{source}" if source.startswith("/") else source.rstrip("/"),
            "want_images": bool(mirrors.k3s),
        },
        "units": units,
        "vips": [
            {"address": str(address), "setting": f"network.{name}", "interface": interface, "ours": list(macs)}
            for name, address in vips(resolved).items()
            if server
        ],
    }


def k3s(resolved: Resolved, node: Node, interface: str, *, founding: bool) -> dict[str, Any]:
    """``desired`` of gpuctl_k3s. Tokens stand in it as @placeholders@."""
    kind = "server" if node.is_server else "agent"
    return {
        "node": node.name,
        "version": resolved.kubernetes.version,
        "unit": "k3s.service" if node.is_server else "k3s-agent.service",
        "unit_text": UNIT.format(kind=kind),
        "config": yaml.safe_dump(config(resolved, node, interface, founding=founding), sort_keys=True, width=1000),
        "registries": registries(resolved),
        "fatal": list(FATAL),
        "settle_seconds": 120,
    }


def config(resolved: Resolved, node: Node, interface: str, *, founding: bool) -> dict[str, Any]:
    """K3s' config.yaml. Labels and taints are not in it: they would apply at registration only."""
    k8s, network = resolved.kubernetes, resolved.network
    vip = f"https://{network.api_vip}:6443"
    common: dict[str, Any] = {
        "node-name": node.name,
        "node-ip": str(node.address),
        "protect-kernel-defaults": True,
        "kubelet-arg": [f"max-pods={k8s.max_pods}"],
    }
    if k8s.flannel_backend != "host-gw":
        common["flannel-iface"] = interface
    if not node.is_server:
        return {**common, "server": vip, "token": "K10@ca_hash@::node:@agent_token@"}
    join = (
        {"cluster-init": True, "token": "@server_token@"}
        if founding
        else {
            "server": vip,
            "token": "K10@ca_hash@::server:@server_token@",
        }
    )
    disabled = ["local-storage", "servicelb", *(["traefik"] if k8s.ingress != "traefik" else [])]
    return {
        **common,
        **join,
        "agent-token": "@agent_token@",
        "tls-san": [str(network.api_vip), *k8s.tls_san],
        "cluster-cidr": str(k8s.pod_cidr),
        "service-cidr": str(k8s.service_cidr),
        "cluster-dns": str(k8s.cluster_dns),
        "cluster-domain": k8s.cluster_domain,
        "flannel-backend": k8s.flannel_backend,
        "disable": disabled,
        "secrets-encryption": True,
        "etcd-expose-metrics": True,
        "etcd-snapshot-schedule-cron": k8s.snapshot_schedule,
        "etcd-snapshot-retention": k8s.snapshot_retention,
        "write-kubeconfig-mode": "0600",
    }


def registries(resolved: Resolved) -> str:
    """K3s' registries.yaml: every image comes from the site's mirror first. "" without one.

    https://docs.k3s.io/installation/private-registry
    """
    mirror = resolved.site.mirrors.registry
    return yaml.safe_dump({"mirrors": {"*": {"endpoint": [mirror]}}}, width=1000) if mirror else ""


def vips(resolved: Resolved) -> dict[str, IPv4Address]:
    """The addresses that move between the servers, by their setting."""
    network = resolved.network
    ingress = {"ingress_vip": network.ingress_vip} if network.ingress_vip else {}
    return {"api_vip": network.api_vip, **ingress}


def _nfs_packages(resolved: Resolved) -> list[str]:
    """The CSI driver brings its own mount.nfs; volumes of the old provisioner are mounted by the host's."""
    return ["nfs-common"] if resolved.storage.nfs and resolved.storage.nfs.provisioner == "subdir" else []


def keepalived(resolved: Resolved, node: Node, interface: str) -> str:
    """Unicast VRRP between the servers; the addresses go together, to where the local API answers.

    Any node takes what comes in for the ingress: kube-proxy brings it to the controller's pods.
    """
    network = resolved.network
    addresses = "".join(f"    {vip}/{network.cidr.prefixlen} dev {interface}\n" for vip in vips(resolved).values())
    peers = "".join(f"    {peer.address}\n" for peer in resolved.servers if peer.name != node.name)
    unicast = f"  unicast_src_ip {node.address}\n  unicast_peer {{\n{peers}  }}\n" if peers else ""
    return (
        "global_defs {\n  enable_script_security\n  script_user root\n}\n"
        f'vrrp_script api {{\n  script "{CHECK}"\n  interval 2\n  timeout 4\n  fall 2\n  rise 1\n}}\n'
        f"vrrp_instance api {{\n  state BACKUP\n  nopreempt\n  interface {interface}\n"
        f"  virtual_router_id {network.vrrp_router_id}\n  priority 100\n  advert_int 1\n{unicast}"
        f"  virtual_ipaddress {{\n{addresses}  }}\n"
        "  track_script {\n    api\n  }\n}\n"
    )


def firewall(resolved: Resolved, node: Node, interface: str) -> str:
    """Only what is needed from the LAN; between nodes the ports of K3s, etcd and VRRP. Other interfaces are pods'."""
    nodes = ", ".join(str(n.address) for n in resolved.nodes)
    servers = ", ".join(str(n.address) for n in resolved.servers)
    lines = ["tcp dport 22 accept", "tcp dport { 80, 443 } accept", "tcp dport 30000-32767 accept"]
    if node.is_server:
        lines += [
            "tcp dport 6443 accept",
            f"ip saddr {{ {servers} }} tcp dport {{ 2379, 2380 }} accept",
            f"ip saddr {{ {servers} }} ip protocol 112 accept",
        ]
    lines += [
        f"ip saddr {{ {nodes} }} tcp dport 10250 accept",
        f"ip saddr {{ {nodes} }} udp dport {{ 8472, 51820 }} accept",
        f"ip saddr {resolved.kubernetes.pod_cidr} accept",
    ]
    rules = "".join(f"    {line}\n" for line in lines)
    return (
        "# Written by gpuctl. Its own table, replaced in one transaction; the rules of others stay as they are.\n"
        "table inet gpuctl\ndelete table inet gpuctl\n"
        "table inet gpuctl {\n  chain input {\n    type filter hook input priority 0; policy accept;\n"
        f'    iifname != "{interface}" accept\n    ct state established,related accept\n'
        f"    meta l4proto {{ icmp, ipv6-icmp }} accept\n{rules}    counter drop\n  }}\n}}\n"
    )


def _file(path: str, content: str, mode: str = "0644") -> dict[str, str]:
    return {"path": path, "content": content, "mode": mode}


def _unit(
    name: str, files: Sequence[str], *, verb: str = "restart", enabled: bool = True, proof: Sequence[str] = ()
) -> dict[str, Any]:
    return {"name": name, "files": list(files), "verb": verb, "enabled": enabled, "proof": list(proof)}


# 401 is alive too: anonymous requests are refused there
API_ALIVE = """#!/bin/sh
code=$(curl --silent --insecure --output /dev/null --max-time 3 --write-out '%{http_code}' https://127.0.0.1:6443/readyz)
[ "$code" = 200 ] || [ "$code" = 401 ]
"""
FIREWALL_UNIT = f"""[Unit]
Description=Host firewall of the cluster (gpuctl)
After=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {FIREWALL}
ExecReload=/usr/sbin/nft -f {FIREWALL}
[Install]
WantedBy=multi-user.target
"""
MOUNT_UNIT = """[Unit]
Description=Scratch disk (gpuctl)
[Mount]
What={device}
Where={mount}
Type=ext4
Options=noatime,nofail
[Install]
WantedBy=local-fs.target
"""
UNIT = """[Unit]
Description=Lightweight Kubernetes (gpuctl)
Wants=network-online.target
After=network-online.target gpuctl-firewall.service
[Service]
Type=notify
EnvironmentFile=-/etc/default/k3s
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s {kind}
[Install]
WantedBy=multi-user.target
"""
