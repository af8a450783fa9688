"""The Proxmox node: memory, storages, bridge, image, and VMs in our way."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.doctor.base import Line, judged, over
from gpuctl.doctor.facts import Api, Facts
from gpuctl.phases.provision import preflight
from gpuctl.render.terraform import image_file, image_of, mark
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.units import counted
from gpuctl.systems.proxmox import Store

GIB = 1 << 30


def judge(facts: Facts) -> Iterator[Line]:
    spec, api = facts.resolved, facts.api
    if spec is None or api is None:
        return
    bridge = spec.site.proxmox.bridge
    yield over("memory", api.capacity, lambda has: _memory(spec, has[0]))
    yield over("storages", api.stores, lambda stores: _storages(spec, api, stores))
    yield over(
        "bridge",
        api.bridges,
        lambda found: judged("bridge", preflight.missing_bridge(spec, found), bridge, "site.proxmox.bridge"),
    )
    yield over("image", api.image, lambda there: _image(spec, api, there=there))
    yield over(
        "vm ids",
        api.others,
        lambda others: judged(
            "vm ids",
            preflight.foreign_vms(spec, api.cluster_id, others, ()),
            f"{spec.nodes[0].vm_id} and {counted(len(spec.nodes) - 1, 'other')} are free or ours",
            "qm list on the Proxmox host shows whose they are",
        ),
    )


def known(spec: Resolved, api: Api) -> set[int]:
    """Ids of the VMs that are ours already: their disks are allocated."""
    if isinstance(api.others, GpuctlError):
        return set()
    ours = mark(spec, api.cluster_id)
    return {vmid for vmid, config in api.others.configs.items() if ours in config.get("description", "")}


def _memory(spec: Resolved, total: int) -> Line:
    wanted, reserve = sum(node.memory for node in spec.nodes), spec.site.host.reserve
    measured = f"the VMs pin {wanted >> 30} GiB and the host keeps {reserve >> 30} GiB of {total >> 30} GiB"
    if wanted + reserve > total:
        return Line("memory", "fail", measured, "smaller or fewer nodes: passed-through memory cannot be overcommitted")
    return Line("memory", "ok", measured)


def _storages(spec: Resolved, api: Api, stores: dict[str, Store]) -> Line:
    names = dict.fromkeys((spec.site.proxmox.storage.os, spec.site.proxmox.storage.scratch))
    shown = [f"{name} {stores[name].free / GIB:.0f} GiB free" for name in names if name in stores]
    wanted = preflight.new_bytes(spec, known(spec, api))
    return judged(
        "storages",
        preflight.wrong_storages(spec, stores, wanted),
        f"{', '.join(shown)}; images on {spec.site.proxmox.storage.images}",
        "Datacenter > Storage in the web interface; site.proxmox.storage names them",
    )


def _image(spec: Resolved, api: Api, *, there: bool) -> Line:
    if there:
        return Line("image", "ok", f"{image_file(spec)} is on {spec.site.proxmox.storage.images}")
    if api.source is not None:
        cause = api.source.what.removeprefix("the Proxmox API refused: ")
        hint = "site.mirrors.os_image names a copy that the server can reach"
        return Line("image", "fail", f"the server cannot reach {image_of(spec).url}: {cause}", hint)
    return Line("image", "ok", "not there yet; the server reaches it, apply lets it fetch it")
