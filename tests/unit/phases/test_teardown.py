"""destroy looks everywhere before it says that something is gone, and removes nothing it cannot account for."""

from __future__ import annotations

from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from gpuctl.context import Context
from gpuctl.phases import teardown
from gpuctl.render.terraform import image_file, mark
from gpuctl.run.errors import GpuctlError
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import Workspace
from gpuctl.spec.load import load
from gpuctl.systems.proxmox import Proxmox
from tests.unit.phases.test_preflight import documented_role

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
assert SPEC
NODE = SPEC.site.proxmox.node


class Server(Proxmox):
    """What a server answers, by path."""

    def __init__(self) -> None:
        assert SPEC
        super().__init__(SPEC.site.proxmox, "")
        self.resources: list[dict[str, Any]] = []
        self.configs: dict[str, dict[str, str]] = {}
        self.contents: dict[str, list[dict[str, Any]]] = {"local": [], "local-lvm": [], "nvme": []}
        self.pci: list[dict[str, Any]] = []

    def vm(self, vmid: int, node: str = NODE, **config: str) -> None:
        self.resources.append({"vmid": vmid, "name": f"vm{vmid}", "node": node, "status": "running"})
        self.configs[f"nodes/{node}/qemu/{vmid}/config"] = config

    def _get(self, path: str, **query: object) -> Any:
        if path.endswith("/content"):
            return self.contents[path.split("/")[-2]]
        return {
            "version": {"version": "9.0.10"},
            "nodes": [{"node": NODE, "status": "online"}],
            "access/permissions": {"/": dict.fromkeys(documented_role(), 1)},
            "cluster/resources": self.resources,
            "cluster/mapping/pci": self.pci,
            **self.configs,
        }[path]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def ctx(tmp_path: Path, server: Server) -> Context:
    assert SPEC
    workspace = Workspace.of(tmp_path / "cluster.yaml", SPEC.name, SPEC.endpoint_name)
    workspace.create()
    made = Context(SPEC, workspace, lambda _: None, Redactor(), Flag())
    vars(made)["proxmox"] = server
    return made


def ours(ctx: Context) -> str:
    return mark(ctx.spec, ctx.workspace.cluster_id)


def test_a_vm_on_another_node_is_not_gone(ctx: Context, server: Server) -> None:
    server.vm(9021, "pve2", description=ours(ctx))
    assert not teardown.leavings(ctx).empty
    with pytest.raises(GpuctlError, match="nothing was removed") as caught:
        teardown.plan(ctx)
    assert "VM 9021 (vm9021) is on pve2" in caught.value.cause
    assert f"qm migrate 9021 {NODE}" in caught.value.next


def test_a_node_that_is_down_hides_nothing_of_ours(ctx: Context, server: Server) -> None:
    server.resources.append({"vmid": 7, "name": "theirs", "node": "pve2", "status": "unknown", "tags": "web"})
    assert teardown.plan(ctx).empty
    server.resources.append(
        {"vmid": 9021, "name": "wk1", "node": "pve2", "status": "unknown", "tags": f"gpuctl;{ctx.spec.name}"}
    )
    with pytest.raises(GpuctlError, match=r"VM 9021 .* cannot be looked at"):
        teardown.plan(ctx)


def test_what_carries_another_id_is_named_with_the_way_out(ctx: Context, server: Server) -> None:
    lost = mark(ctx.spec, "0123abcd")
    server.vm(9021, description=lost)
    server.vm(100, description=lost.replace(ctx.spec.name, f"{ctx.spec.name}-2"))
    server.pci = [{"id": "homelab-wk-gpu1-gpu0", "description": lost, "map": []}]
    with pytest.raises(GpuctlError, match="2 objects of homelab carry another cluster id") as caught:
        teardown.plan(ctx)
    assert [line.split(":")[0] for line in caught.value.cause.splitlines()] == [
        "VM 9021 (vm9021)",
        "mapping homelab-wk-gpu1-gpu0",
    ]
    assert "echo 0123abcd >" in caught.value.next
    # and that is the way out
    (ctx.workspace.root / "cluster-id").write_text("0123abcd\n", encoding="utf-8")
    assert teardown.plan(ctx).vms == ((9021, "vm9021"),)


def test_disks_are_found_where_the_vm_has_them_and_when_the_vm_is_gone(ctx: Context, server: Server) -> None:
    server.vm(9021, description=ours(ctx), scsi1="old:vm-9021-disk-1,size=9G", ide3="isos:iso/debian.iso,media=cdrom")
    disk = {"volid": "old:vm-9021-disk-1", "vmid": 9021, "size": 9}
    server.contents["old"] = [disk, {"volid": "old:vm-7-disk-0", "vmid": 7, "size": 9}]
    planned = teardown.plan(ctx)
    assert planned.disks == (("old:vm-9021-disk-1", 9),)
    server.resources.clear()
    assert teardown.leavings(ctx, planned).disks == planned.disks
    # unless somebody has the id by then
    server.vm(9021, description="not yours")
    assert teardown.leavings(ctx, planned).empty


def test_an_image_of_an_earlier_spec_is_looked_for_where_it_was(ctx: Context, server: Server) -> None:
    server.contents["old"] = [{"volid": "old:import/homelab-0.qcow2"}, {"volid": "old:import/debian.qcow2"}]
    server.contents["local"] = [{"volid": f"local:import/{image_file(ctx.spec)}"}]
    known = teardown.Leavings((), (), (), ("old:import/homelab-0.qcow2",))
    assert teardown.leavings(ctx, known).images == (
        f"local:import/{image_file(ctx.spec)}",
        "old:import/homelab-0.qcow2",
    )
