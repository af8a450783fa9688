"""What notebooks may use together and reach: quotas, limits, network policies of their namespace.

Quotas on processors and memory hold only for pods of the notebooks' priority class, so that the hub is never refused
its own restart; Kubernetes does not scope quotas on GPUs and storage, of which only notebooks and homes take any.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network, collapse_addresses
from typing import Any

from gpuctl.render.charts import Release, quantity
from gpuctl.spec import fit
from gpuctl.spec.resolved import JupyterHub, Resolved

NAME, NAMESPACE = "policies", "jupyterhub"
VERSION = "1.0.0"
PRIORITY_CLASS = "gpuctl-notebooks"
HUB_DATABASE = 1 << 30
# the namespace's: what users start is never privileged and never sees the host
LABELS = {
    "pod-security.kubernetes.io/enforce": "baseline",
    "pod-security.kubernetes.io/audit": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}
# RFC 1918, RFC 6598, and link-local, where cloud metadata is
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")

# what Jupyter and IPython keep in SQLite, whose locks do not work on NFS: per notebook, worthless to the next one
SETTINGS = "notebook-settings"
SQLITE_AWAY = {
    "/etc/ipython/ipython_config.json": {"HistoryManager": {"hist_file": "/tmp/ipython-history.sqlite"}},
    "/etc/jupyter/jupyter_server_config.d/gpuctl.json": {
        "BaseFileIdManager": {"db_path": "/tmp/file_id_manager.db"},
        "NotebookNotary": {"db_file": "/tmp/nbsignatures.db"},
        "SQLiteYStore": {"db_path": "/tmp/ystore.db"},
    },
}


def release(spec: Resolved) -> Release | None:
    """The policies; None without a hub."""
    hub = spec.jupyterhub
    if hub is None:
        return None
    values: dict[str, Any] = {
        "priorityClass": PRIORITY_CLASS,
        "notebooks": _notebooks(hub),
        "namespace": _namespace(hub),
        # a container that asks for nothing would be the first to be thrown out
        "requests": {"cpu": "10m", "memory": "32Mi"},
        "largestClaim": quantity(max(hub.home_size, HUB_DATABASE, hub.scratch.size if hub.scratch else 0)),
        "blocked": [str(network) for network in blocked(spec)],
        "challenges": spec.certificates.issuer == "letsencrypt",
        "settings": {name: json.dumps(SQLITE_AWAY[path], sort_keys=True) + "\n" for path, name in settings(spec, hub)},
    }
    return Release(NAME, NAMESPACE, NAME, VERSION, "", values, LABELS)


def _notebooks(hub: JupyterHub) -> dict[str, str]:
    quota = hub.quota
    hard = {"pods": str(quota.notebooks) if quota.notebooks else ""}
    hard["limits.cpu"] = f"{quota.cpus:g}" if quota.cpus else ""
    hard["limits.memory"] = quantity(quota.memory) if quota.memory else ""
    return {name: value for name, value in hard.items() if value}


def _namespace(hub: JupyterHub) -> dict[str, str]:
    hard = {}
    if hub.quota.gpus is not None:
        hard[f"requests.{fit.GPU}"] = str(hub.quota.gpus)
    if hub.quota.storage is not None:
        hard["requests.storage"] = quantity(hub.quota.storage + HUB_DATABASE)
    return hard


def blocked(spec: Resolved) -> Iterator[IPv4Network]:
    """Where notebooks never reach: private networks, cloud metadata, and the site's own where its addresses are public.

    These are the LAN with the API servers, pods, Services, NFS and the Proxmox server, as far as given by address.
    """
    own = [spec.network.cidr, spec.kubernetes.pod_cidr, spec.kubernetes.service_cidr]
    addresses = [spec.endpoint_name, *([str(spec.storage.nfs.server)] if spec.storage.nfs else [])]
    for address in addresses:
        with suppress(ValueError):
            own.append(IPv4Network(address))
    return collapse_addresses([*map(IPv4Network, PRIVATE), *own])


def settings(spec: Resolved, hub: JupyterHub) -> list[tuple[str, str]]:
    """(path in notebooks, key in the ConfigMap) of the files that notebooks with homes on NFS are given."""
    nfs = spec.storage.nfs
    if not nfs or hub.home_class != nfs.storage_class:
        return []
    return [(path, path.strip("/").replace("/", "-")) for path in SQLITE_AWAY]
