"""Storage: what provisions volumes, and the classes that users ask for. Classes are made by our own chart only.

Keys: the official charts; StorageClass parameters: the provisioners' own documentation.
"""

from __future__ import annotations

from typing import Any

from gpuctl.render.charts import PRIVILEGED, Release, core_tolerations
from gpuctl.spec.resolved import Nfs, Node, Resolved
from gpuctl.spec.versions import table

LOCAL, CLASSES = "local-storage", "storage-classes"
CSI, SUBDIR = "csi-driver-nfs", "nfs-subdir-external-provisioner"
NAMESPACE, NFS_NAMESPACE = "local-storage", "kube-system"
OWN_VERSION = "1.0.0"
LOCAL_PROVISIONER, CSI_PROVISIONER = "rancher.io/local-path", "nfs.csi.k8s.io"
# what its chart calls it by default, so that volumes made by such a release are adopted
SUBDIR_PROVISIONER = "cluster.local/nfs-subdir-external-provisioner"


def scratch_nodes(spec: Resolved) -> tuple[Node, ...]:
    """The nodes that have a scratch disk at the class's mount."""
    return tuple(node for node in spec.nodes if node.scratch) if spec.storage.scratch else ()


def local(spec: Resolved) -> Release:
    """The provisioner on the nodes' own disks: which folder of which node belongs to which class."""
    storage = spec.storage
    paths = {storage.local.storage_class: {node.name: storage.local.path for node in spec.nodes}}
    if storage.scratch and scratch_nodes(spec):
        paths[storage.scratch.storage_class] = {node.name: storage.scratch.mount for node in scratch_nodes(spec)}
    values = {
        "classes": [{"name": name, "nodes": nodes} for name, nodes in sorted(paths.items())],
        "helperImage": spec.probe_image,
        "image": f"docker.io/rancher/local-path-provisioner:{table()['local_path_provisioner']}",
        "tolerations": core_tolerations(spec),
    }
    return Release(LOCAL, NAMESPACE, LOCAL, OWN_VERSION, "", values, PRIVILEGED)


def csi(spec: Resolved) -> Release | None:
    """csi-driver-nfs; None when the spec has no NFS, or leaves it to the old provisioner."""
    if not spec.storage.nfs or spec.storage.nfs.provisioner != "csi":
        return None
    values: dict[str, Any] = {
        "controller": {"tolerations": core_tolerations(spec)},
        "externalSnapshotter": {"enabled": False},
        # the kubelet would change owners on the server, which one that squashes root refuses
        "feature": {"enableFSGroupPolicy": False},
        "node": {"tolerations": [{"operator": "Exists"}]},
        "storageClass": {"create": False},
    }
    return Release(CSI, NFS_NAMESPACE, CSI, str(table()["csi_driver_nfs"]), table()["charts"][CSI], values)


def subdir(spec: Resolved) -> Release | None:
    """nfs-subdir-external-provisioner, for volumes that it made; None when the spec does not ask for it."""
    nfs = spec.storage.nfs
    if not nfs or nfs.provisioner != "subdir":
        return None
    values: dict[str, Any] = {
        "nfs": {"mountOptions": list(nfs.mount_options), "path": nfs.path, "server": str(nfs.server)},
        "storageClass": {"create": False, "provisionerName": SUBDIR_PROVISIONER},
        "tolerations": core_tolerations(spec),
    }
    version = str(table()["nfs_subdir_external_provisioner"])
    return Release(SUBDIR, NFS_NAMESPACE, SUBDIR, version, table()["charts"][SUBDIR], values)


def classes(spec: Resolved) -> Release:
    """The StorageClass objects, at most one of them the default."""
    storage = spec.storage
    on_disk = {"provisioner": LOCAL_PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer"}
    found: list[dict[str, Any]] = [
        {"name": storage.local.storage_class, "default": storage.local.default, **on_disk},
    ]
    if storage.scratch and (nodes := scratch_nodes(spec)):
        names = sorted(node.name for node in nodes)
        found.append({"name": storage.scratch.storage_class, "default": False, "nodes": names, **on_disk})
    if storage.nfs:
        found.append(_nfs(storage.nfs))
    values = {"classes": sorted(found, key=lambda one: str(one["name"]))}
    return Release(CLASSES, NAMESPACE, CLASSES, OWN_VERSION, "", values, PRIVILEGED)


def _nfs(nfs: Nfs) -> dict[str, Any]:
    csi = nfs.provisioner == "csi"
    parameters = {
        "server": str(nfs.server),
        "share": nfs.path,
        # folders that an operator can tell apart on the server
        "subDir": "${pvc.metadata.namespace}-${pvc.metadata.name}-${pv.metadata.name}",
        # on a server that squashes root they belong to nobody, and users (uid 1000) must write into them
        "mountPermissions": "0777",
    }
    return {
        "allowVolumeExpansion": csi,
        "default": nfs.default,
        "mountOptions": list(nfs.mount_options),
        "name": nfs.storage_class,
        "parameters": parameters if csi else {"archiveOnDelete": "false"},
        "provisioner": CSI_PROVISIONER if csi else SUBDIR_PROVISIONER,
        "reclaimPolicy": nfs.reclaim,
        "volumeBindingMode": "Immediate",
    }


def releases(spec: Resolved) -> dict[str, tuple[str, Release | None]]:
    """Every release of storage, wanted or not, by name: its namespace and the release."""
    return {
        LOCAL: (NAMESPACE, local(spec)),
        CSI: (NFS_NAMESPACE, csi(spec)),
        SUBDIR: (NFS_NAMESPACE, subdir(spec)),
        CLASSES: (NAMESPACE, classes(spec)),
    }
