"""What a Proxmox server has, for the proposal of a spec."""

from __future__ import annotations

from gpuctl.spec.propose import Server, Storage
from gpuctl.systems.proxmox import Proxmox


def of(proxmox: Proxmox, node: str) -> Server:
    """Ask for all of it. GpuctlError when something is refused."""
    memory, cpus = proxmox.capacity()
    vms = proxmox.vms()
    return Server(
        memory,
        sum(vm.memory for vm in vms if vm.node == node and vm.status == "running"),
        cpus,
        {store.name: Storage(store.content, store.free) for store in proxmox.stores().values() if store.active},
        {name: (bridge.cidr, bridge.gateway) for name, bridge in proxmox.bridges().items()},
        tuple(card.id for card in proxmox.cards()),
        frozenset(vm.vmid for vm in vms),
    )
