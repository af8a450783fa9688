"""What a change of Terraform's plan means for a living VM: its words and its price, or why it is refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuctl.context import Consent
from gpuctl.phases.base import Change
from gpuctl.phases.provision import changes
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.load import load
from gpuctl.systems.terraform import VM_TYPE, ResourceChange

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
VM: dict[str, Any] = {
    "vm_id": 9021,
    "cpu": [{"cores": 16}],
    "memory": [{"dedicated": 131072}],
    "disk": [
        {"interface": "scsi0", "size": 200, "datastore_id": "local-lvm"},
        {"interface": "scsi1", "size": 500, "datastore_id": "nvme"},
    ],
    "hostpci": [],
    "network_device": [{"bridge": "vmbr0", "vlan_id": 0, "mtu": 0}],
    "initialization": [
        {
            "dns": [{"domain": "local", "servers": ["10.0.0.1"]}],
            "ip_config": [{"ipv4": [{"address": "10.0.0.21/24", "gateway": "10.0.0.1"}]}],
        }
    ],
    "started": True,
}


def vm(key: str, actions: tuple[str, ...], before: Any = None, after: Any = None) -> ResourceChange:
    return ResourceChange(f'{VM_TYPE}.node["{key}"]', VM_TYPE, key, actions, before or {}, after or {}, (), "")


def of(*planned: ResourceChange) -> list[Change]:
    ctx: Any = SimpleNamespace(spec=SPEC, consent=Consent())
    return changes.of(ctx, planned)


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    values = deepcopy(VM)
    here: Any = values
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "summary", "disruption"),
    [
        (("cpu", 0, "cores"), 8, "16 -> 8 cpus", "power-cycles the VM"),
        (("disk", 1, "size"), 600, "scsi1 500 -> 600 GiB", ""),
        (("disk", 1, "datastore_id"), "ssd", "scsi1 moves from nvme to ssd", "power-cycles the VM"),
        (("network_device", 0, "bridge"), "vmbr1", "bridge vmbr0 -> vmbr1", "reboots the VM"),
        (("network_device", 0, "vlan_id"), 7, "VLAN none -> 7", "reboots the VM"),
        (("network_device", 0, "vlan_id"), None, "settings", ""),
        (("initialization", 0, "dns", 0, "servers"), ["10.0.0.3"], "DNS 10.0.0.1 -> 10.0.0.3", "reboots the VM"),
        (
            ("initialization", 0, "ip_config", 0, "ipv4", 0, "gateway"),
            "10.0.0.2",
            "gateway 10.0.0.1 -> 10.0.0.2",
            "reboots the VM",
        ),
    ],
)
def test_an_update_names_what_differs_and_its_price(
    path: tuple[str | int, ...], value: Any, summary: str, disruption: str
) -> None:
    (change,) = of(vm("wk-gpu1", ("update",), VM, changed(path, value)))
    assert (change.summary, change.disruption) == (summary, disruption)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("disk", 1, "size"), 400, "scsi1 cannot shrink from 500 to 400 GiB"),
        (("disk",), VM["disk"][:1], "the disk scsi1 of a running VM cannot be taken away"),
        (("initialization", 0, "ip_config", 0, "ipv4", 0, "address"), "10.0.0.21/16", "the address of a running VM"),
    ],
)
def test_what_a_living_vm_cannot_become_is_refused_with_the_way_out(
    path: tuple[str | int, ...], value: Any, says: str
) -> None:
    with pytest.raises(GpuctlError, match=says) as caught:
        of(vm("wk-gpu1", ("update",), VM, changed(path, value)))
    assert caught.value.next.endswith("gpuctl apply --replace wk-gpu1")


@pytest.mark.parametrize("actions", [("create",), ("delete", "create")])
def test_a_vm_id_does_not_go_from_one_node_to_another_in_one_run(actions: tuple[str, ...]) -> None:
    leaving = vm("old1", ("delete",), VM)
    taking = vm("wk-gpu1", actions, changed(("vm_id",), 9022) if "delete" in actions else None, VM)
    with pytest.raises(GpuctlError, match="VM 9021 cannot go from old1 to wk-gpu1 in one run"):
        of(leaving, taking)


def test_a_replaced_vm_keeps_its_id() -> None:
    (change,) = of(vm("wk-gpu1", ("delete", "create"), VM, VM))
    assert change.consent == "--replace wk-gpu1"


def test_another_card_in_a_mapping_says_when_its_vm_has_it() -> None:
    kind = "proxmox_hardware_mapping_pci"
    before, after = ({"map": [{"path": path}]} for path in ("0000:17:00.0", "0000:31:00.0"))
    change = ResourceChange(f'{kind}.gpu["one"]', kind, "one", ("update",), before, after, (), "")
    (found,) = of(change)
    assert found.summary == (
        "0000:17:00.0 -> 0000:31:00.0; its VM keeps the card it has until it is stopped and started"
    )
