"""The site file: how the lab looks to gpuctl, an air-gapped site like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lab.paths import API_PORT, GIT_PORT, MIRROR_PORT, SERVICE_ADDRESS, Instance

MIRROR = f"http://{SERVICE_ADDRESS}:{MIRROR_PORT}"
NODE = "pve"
SIMULATED = (
    "hypervisor (emulated Proxmox VE API; a VM is a systemd-nspawn host on this machine's kernel)",
    "Terraform provider bpg/proxmox (stand-in with the real one's schema)",
    "K3s (stand-in command over the real Kubernetes components, etcd and containerd)",
    "GPUs, their driver and the GPU Operator (stand-ins under the official names; CUDA runs on the CPU)",
    "Fleet (stand-in with the real Helm and its own names and conditions; charts in bundles only)",
    "cert-manager and Rancher (stand-ins under the official names; certificates are real X.509, ACME issues nothing)",
    "NFS (a folder that all hosts share, behind stand-ins of csi-driver-nfs and nfs-subdir-external-provisioner)",
    "charts nginx-ingress and jupyterhub (stand-ins with the official keys around the real programs)",
    "container images (built from Debian, PyPI, npm and Go modules under the official names)",
    "cloud-init and guest agent (stand-ins)",
)


def content(instance: Instance, os_image_sha256: str, charts: Path, inventory: dict[str, Any]) -> str:
    """The YAML. ``inventory`` is the ``host`` block: what the emulated server is said to have."""
    site = {
        "proxmox": {
            "endpoint": f"https://{SERVICE_ADDRESS}:{API_PORT}",
            "ca": f"file:{instance.root}/pve-ca.pem",
            "token": f"file:{instance.root}/pve-token",
            "node": NODE,
            "storage": {"os": "local-lvm", "scratch": "nvme", "images": "local"},
            "bridge": "vmbr0",
        },
        "host": inventory,
        "mirrors": {
            "terraform_provider": str(instance.root / "providers"),
            "k3s": f"{MIRROR}/k3s",
            "charts": str(charts),
            "git": f"http://{SERVICE_ADDRESS}:{GIT_PORT}",
            "registry": MIRROR,
            "apt": f"deb [trusted=yes] {MIRROR}/apt ./",
            "os_image": {"url": f"{MIRROR}/image/debian-12.qcow2", "checksum": f"sha256:{os_image_sha256}"},
        },
        "simulated": list(SIMULATED),
    }
    return f"# Written by the rehearsal lab {instance.name!r}: pass it as --site\n" + yaml.safe_dump(
        site, sort_keys=False, width=200
    )
