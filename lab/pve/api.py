"""The emulated Proxmox VE API: fakepve, completed by what the Terraform provider and gpuctl's preflight rely on.

Behaviour follows what the real provider was seen to need. VMs are real machines of ``lab.machine.Machines``.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from fakepve import FakePve
from fakepve.lxc import SIZE_UNITS, format_size
from fakepve.model import PveError, TaskError
from fakepve.qemu import DRIVE_KEY, join_drive, split_drive, volume_ref, with_mac
from fakepve.server import USER, ok, params

from lab.machine import CloudInit, Disk, Machine, MachineError, Machines
from lab.pve.site import GIB, NODE, Inventory

TOKEN = "gpuctl@pve!lab"
IMAGE_SIZE = 3 * GIB  # what the cloud image's disk measures
MINIMUM_PRIVILEGES = [
    "VM.Allocate",
    "VM.Audit",
    "VM.PowerMgmt",
    "VM.GuestAgent.Audit",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "Datastore.Allocate",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "SDN.Use",
    "Mapping.Use",
    "Mapping.Audit",
    "Mapping.Modify",
    "Sys.Audit",
    "Sys.Modify",
    "Sys.AccessNetwork",
]
ROOT_ONLY = ("args", "affinity", "hookscript", "hugepages", "keephugepages", "arch", "ciupgrade")
HOSTPCI = re.compile(r"hostpci\d+")


def properties(text: object) -> dict[str, str]:
    """``a=1,b=2`` as a dict."""
    return dict(part.partition("=")[::2] for part in str(text).split(",") if part)


class LabPve(FakePve):  # type: ignore[misc]
    """One node named ``pve``. ``fault`` causes what a test wants to see handled."""

    def __init__(self, inventory: Inventory, machines: Machines, secret: str, host: str, port: int) -> None:
        super().__init__(host=host, port=port)
        self.machines = machines
        self.inventory = inventory
        self.nodes = {NODE: {"online": True}}
        self.cards = [dict(card) for card in inventory.cards]
        self.mappings_by_name: dict[str, dict[str, Any]] = {}
        self.apitokens = {TOKEN: secret}
        self.storages: dict[str, dict[str, Any]] = {
            name: {
                "type": s.type,
                "active": 1,
                "content": s.content,
                "files": set(),
                "avail": s.total,
                "total": s.total,
                **dict(s.options),
            }
            for name, s in inventory.storages.items()
        }
        self.grant(TOKEN, "/", *MINIMUM_PRIVILEGES)
        self.failing: dict[str, tuple[str, int]] = {}
        self.delays: dict[str, float] = {}

    # --- faults

    async def fault(self, name: str, /, **arguments: Any) -> Any:
        """Cause a fault by name. ValueError: unknown name or arguments."""
        faults: dict[str, Callable[..., Any]] = {
            "fail-next": self._fault_fail,
            "delay-task": self._fault_delay,
            "expire-token": lambda: self.apitokens.clear(),
            "set-privileges": self._fault_privileges,
            "set-free": self._fault_free,
            "foreign-vm": self._fault_foreign,
            "delete-vm": self._fault_delete,
            "node-offline": lambda offline=True: self.set_node_offline(NODE, offline),
            "remove-card": self._fault_remove_card,
        }
        if name not in faults:
            raise ValueError(f"the lab knows no {name!r}; faults of the API: {', '.join(faults)}")
        result = faults[name](**arguments)
        return await result if asyncio.iscoroutine(result) else result

    def _fault_fail(self, task: str, message: str, times: int = 1) -> None:
        self.failing[task] = (message, times)

    def _fault_delay(self, task: str, seconds: float) -> None:
        self.delays[task] = seconds

    def _fault_privileges(self, names: list[str]) -> None:
        self.acl = {TOKEN: [("/", set(names))]}

    def _fault_free(self, storage: str, size: int) -> None:
        self.storages[storage]["avail"] = size

    def _fault_foreign(self, vmid: int, name: str = "somebodys") -> None:
        self.add_vm(vmid, name, node=NODE).config.update(name=name, description="not yours")

    def _fault_remove_card(self, path: str) -> None:
        self.cards = [card for card in self.cards if card["id"] != path]

    async def _fault_delete(self, vmid: int) -> None:
        await asyncio.to_thread(self.machines.destroy, vmid)
        self.vms[:] = [vm for vm in self.vms if vm.vmid != vmid]

    async def task(self, node: str, ttype: str, tid: Any, user: str, body: Any, **options: Any) -> Any:
        async def run() -> Any:
            if seconds := self.delays.get(ttype):
                await asyncio.sleep(seconds)
            if ttype in self.failing:
                message, times = self.failing.pop(ttype)
                if times > 1:
                    self.failing[ttype] = (message, times - 1)
                raise TaskError(message)
            return await body()

        return await super().task(node, ttype, tid, user, run, **options)

    # --- routes

    def _register_stateful(self, router: Any, prefixes: Any) -> Any:
        class Both:
            """Every route also with a trailing slash: PVE ignores it and the provider sends it."""

            def add_route(self, method: str, path: str, handler: Any) -> None:
                router.add_route(method, path, handler)
                router.add_route(method, f"{path}/", handler)

        return super()._register_stateful(Both(), prefixes)

    def _routes_lab(self) -> list[tuple[str, str, Any]]:
        mapping = "/cluster/mapping/pci"
        return [
            ("GET", mapping, self._mapping_list),
            ("POST", mapping, self._mapping_add),
            ("GET", f"{mapping}/{{id}}", self._mapping_get),
            ("PUT", f"{mapping}/{{id}}", self._mapping_put),
            ("DELETE", f"{mapping}/{{id}}", self._mapping_delete),
            ("GET", "/nodes/{node}/hardware/pci", self._hardware),
            ("GET", "/nodes/{node}/status", self._node_status),
            ("GET", "/nodes/{node}/network", self._network),
            ("PUT", "/nodes/{node}/qemu/{vmid}/resize", self._resize),
        ]

    async def _middleware_refresh(self) -> None:
        for vm in self.vms:
            if vm.vmid in self.started:
                vm.status = vm.qmpstatus = "running" if self.machines.running(vm.vmid) else "stopped"

    @property
    def started(self) -> set[int]:
        """Ids of VMs that were powered on by us: their status is the machine's own."""
        found: set[int] = self.__dict__.setdefault("_started", set())
        return found

    async def _answer(self, request: Any, handler: Any, generic: Any, path_node: Any) -> Any:
        await self._middleware_refresh()
        return await super()._answer(request, handler, generic, path_node)

    # --- mappings

    def _mapping_view(self, name: str) -> dict[str, Any]:
        if name not in self.mappings_by_name:
            raise PveError(500, f"mapping '{name}' does not exist")
        kept = self.mappings_by_name[name]
        return {"id": name, "type": "pci", "digest": "a" * 40, **{k: v for k, v in kept.items() if v not in (None, "")}}

    async def _mapping_list(self, values: Any, _user: str) -> list[dict[str, Any]]:
        found = []
        for name in sorted(self.mappings_by_name):
            view = self._mapping_view(name)
            if values.get("check-node"):
                wrong = self._mapping_error(name)
                view["checks"] = [{"severity": "error", "message": f"Invalid configuration: {wrong}"}] if wrong else []
            found.append(view)
        return found

    async def _mapping_add(self, values: Any, user: str) -> None:
        self.require(user, f"/mapping/pci/{values['id']}", "Mapping.Modify")
        if values["id"] in self.mappings_by_name:
            raise PveError(500, f"pci ID '{values['id']}' already defined")
        self.mappings_by_name[values["id"]] = {
            "description": values.get("description"),
            "map": _as_list(values["map"]),
        }

    async def _mapping_get(self, values: Any, _user: str) -> dict[str, Any]:
        return self._mapping_view(values["id"])

    async def _mapping_put(self, values: Any, user: str) -> None:
        self.require(user, f"/mapping/pci/{values['id']}", "Mapping.Modify")
        self._mapping_view(values["id"])
        kept = self.mappings_by_name[values["id"]]
        if "description" in values:
            kept["description"] = values["description"]
        if "map" in values:
            kept["map"] = _as_list(values["map"])

    async def _mapping_delete(self, values: Any, user: str) -> None:
        self.require(user, f"/mapping/pci/{values['id']}", "Mapping.Modify")
        self.mappings_by_name.pop(values["id"], None)

    def _mapping_path(self, name: str) -> dict[str, str] | None:
        rows = [properties(row) for row in self.mappings_by_name.get(name, {"map": []})["map"]]
        return next((row for row in rows if row.get("node") == NODE), None)

    def _mapping_error(self, name: str) -> str:
        row = self._mapping_path(name)
        if row is None:
            return f"no mapping for node {NODE}"
        card = next((c for c in self.cards if c["id"].startswith(row["path"])), None)
        if card is None:
            return f"pci device '{row['path']}' not found"
        have = {
            "id": f"{card['vendor'][2:]}:{card['device'][2:]}",
            "iommugroup": str(card["iommugroup"]),
            "subsystem-id": f"{card['subsystem_vendor'][2:]}:{card['subsystem_device'][2:]}",
        }
        for key, value in have.items():
            if key not in row:
                return f"missing expected property '{key}' for '{row['path']}'"
            if row[key].replace("0x", "") != value:
                return f"'{key}' does not match for '{row['path']}' ({row[key]} != {value})"
        return ""

    # --- node

    async def _hardware(self, _values: Any, user: str) -> list[dict[str, Any]]:
        self.require(user, "/", "Sys.Audit")
        return [dict(card) for card in self.cards]

    async def _network(self, values: Any, _user: str) -> list[dict[str, Any]]:
        return [{"iface": name, "type": "bridge", "active": 1, "autostart": 1} for name in self.inventory.bridges]

    async def _node_status(self, _values: Any, _user: str) -> dict[str, Any]:
        memory, cpus = self.inventory.memory, self.inventory.cpus
        used = sum(int(vm.config.get("memory", 512)) << 20 for vm in self.vms if vm.status == "running")
        return {
            "cpuinfo": {"cores": cpus // 2, "cpus": cpus, "sockets": 2, "model": "emulated", "mhz": "2800.000"},
            "memory": {"total": memory, "used": used, "free": memory - used},
            "rootfs": {"total": 100 * GIB, "used": 10 * GIB, "free": 90 * GIB, "avail": 90 * GIB},
            "uptime": 3600,
            "loadavg": ["0.10", "0.10", "0.10"],
            "kversion": "Linux 6.14.8-2-pve",
            "pveversion": f"pve-manager/{self.version}/emulated",
            "boot-info": {"mode": "efi", "secureboot": 0},
        }

    # --- images

    async def _download_url(self, request: Any) -> Any:
        name, _store = self._file_storage(request, "download")
        user = request[USER]
        self.require(user, f"/storage/{name}", "Datastore.AllocateTemplate")
        values = self._verify(request, await params(request))

        async def body() -> None:
            data = await _fetch(str(values["url"]))
            kind, wanted = values.get("checksum-algorithm"), values.get("checksum")
            if kind and hashlib.new(str(kind), data).hexdigest() != str(wanted).lower():
                raise TaskError(
                    f"checksum mismatch: got '{hashlib.new(str(kind), data).hexdigest()}' != expect '{wanted}'"
                )
            if len(data) > self.storages[name]["avail"]:
                raise TaskError("download failed: No space left on device")
            self.store_file(name, values["filename"], len(data), values["content"])

        return ok(await self.task(request.match_info["node"], "download", name, user, body))

    # --- drives

    def _qm_new_drive(self, vmid: int, key: str, value: str, default: Any) -> Any:
        volume, options = split_drive(value)
        options = dict(options)
        if volume.endswith(":cloudinit"):
            storage = volume_ref(volume)[0] or default
            name = f"vm-{vmid}-cloudinit"
            self.storages[storage].setdefault("volumes", {})[name] = {
                "content": "images",
                "format": "raw",
                "size": 4 << 20,
                "vmid": vmid,
                "ctime": 0,
            }
            options.update(media="cdrom", size="4M")
            return join_drive(f"{storage}:{name}", options), [f"{storage}:{name}"]
        if source := options.pop("import-from", None):
            storage, name = volume_ref(source)
            if storage and self._volumes(storage).get(name) is None:
                raise TaskError(f"volume '{source}' does not exist")
            made, _ = self._qm_alloc(volume.partition(":")[0], vmid, options.pop("format", None), IMAGE_SIZE)
            options["size"] = format_size(IMAGE_SIZE)
            return join_drive(made, options), [made]
        return super()._qm_new_drive(vmid, key, value, default)

    async def _resize(self, values: Any, user: str) -> Any:
        vm, key = self.find(values["node"], values["vmid"]), values["disk"]
        self.require(user, f"/vms/{vm.vmid}", "VM.Config.Disk")
        if key not in vm.config:
            raise PveError(500, f"disk '{key}' does not exist")

        async def body() -> None:
            volume, options = split_drive(vm.config[key])
            storage, name = volume_ref(volume)
            match = re.fullmatch(r"(\+)?(\d+(?:\.\d+)?)([KMGT])?", str(values["size"]))
            if match is None:
                raise TaskError(f"unable to parse size '{values['size']}'")
            given = int(float(match[2]) * (SIZE_UNITS[match[3]] if match[3] else 1))
            kept = self._volumes(storage)[name]
            old = int(kept["size"])
            new = old + given if match[1] else given
            if new < old:
                raise TaskError("shrinking disks is not supported")
            if new - old > self.storages[storage]["avail"]:
                raise TaskError(f"unable to write to storage '{storage}': No space left on device")
            self.storages[storage]["avail"] -= new - old
            kept["size"] = new
            vm.config[key] = join_drive(volume, {**dict(options), "size": format_size(new)})
            await asyncio.to_thread(self.machines.resize, vm.vmid, key, new)

        return await self.task(vm.node, "resize", vm.vmid, user, body, vm=vm)

    # --- VMs

    def _refuse_root_only(self, values: Any, user: str) -> None:
        if user == "root@pam":
            return
        for key, value in values.items():
            if key in ROOT_ONLY:
                raise PveError(500, f"only root can set '{key}' config")
            if HOSTPCI.fullmatch(key) and "mapping=" not in str(value):
                raise PveError(500, f"only root can set '{key}' config for non-mapped devices")

    async def _qm_create(self, values: Any, user: str) -> Any:
        self._refuse_root_only(values, user)
        return await super()._qm_create(values, user)

    async def _apply_config(self, vm: Any, user: str, values: Any) -> None:
        self._refuse_root_only(values, user)
        values = dict(values)
        for key in [key for key in values if DRIVE_KEY.match(key)]:
            volume, options = split_drive(values[key])
            if re.fullmatch(r"[^/:\s]+:(\d+(\.\d+)?|cloudinit)", volume):
                values[key], _ = self._qm_new_drive(vm.vmid, key, values[key], None)
            elif volume.partition(":")[0] in self.storages:
                storage, name = volume_ref(volume)
                kept = self._volumes(storage).get(name)
                if kept and kept.get("size"):
                    values[key] = join_drive(volume, {**dict(options), "size": format_size(int(kept["size"]))})
        for key in list(values):
            if re.fullmatch(r"net\d+", key):
                values[key] = with_mac(values[key])
        if "tags" in values:
            values["tags"] = ";".join(sorted({t.lower() for t in re.split(r"[;, ]+", str(values["tags"])) if t}))
        await super()._apply_config(vm, user, values)

    async def _config_get(self, request: Any) -> Any:
        vm = self._vm(request, "VM.Audit")
        shown = dict(vm.config)
        if str(request.query.get("current", "0")) not in ("1", "true"):
            for key, value in vm.pending.items():
                shown.pop(key, None)
                if value is not None:
                    shown[key] = value
        if "memory" in shown:
            shown["memory"] = str(shown["memory"])
        return ok({**shown, "digest": vm.digest()})

    async def _do_start(self, vm: Any, user: str, _values: Any) -> Any:
        async def body() -> None:
            if vm.lock:
                raise TaskError(f"VM is locked ({vm.lock})")
            if vm.status == "running":
                raise TaskError(f"VM {vm.vmid} already running")
            vm.apply_pending()
            self._check_cards(vm)
            try:
                await asyncio.to_thread(self.machines.start, self._machine(vm))
            except MachineError as error:
                raise TaskError(f"start failed: {error}") from error
            self.started.add(vm.vmid)
            vm.status = vm.qmpstatus = "running"

        return await self.task(vm.node, "qmstart", vm.vmid, user, body, vm=vm)

    async def _do_stop(self, vm: Any, user: str, _values: Any) -> Any:
        return await self.task(vm.node, "qmstop", vm.vmid, user, lambda: self._off(vm, hard=True), vm=vm)

    async def _do_shutdown(self, vm: Any, user: str, _values: Any) -> Any:
        self._need_running(vm)
        return await self.task(vm.node, "qmshutdown", vm.vmid, user, lambda: self._off(vm, hard=False), vm=vm)

    async def _off(self, vm: Any, *, hard: bool) -> None:
        await asyncio.to_thread(self.machines.stop, vm.vmid, hard=hard)
        vm.status = vm.qmpstatus = "stopped"

    async def _qm_destroy(self, values: Any, user: str) -> Any:
        vm = self.find(values["node"], values["vmid"])
        upid = await super()._qm_destroy(values, user)
        if vm not in self.vms:
            self.started.discard(vm.vmid)
            await asyncio.to_thread(self.machines.destroy, vm.vmid)
        return upid

    async def _agent_call(self, match: Any, values: Any) -> Any:
        vm = self.find(values["node"], values["vmid"])
        answer = await asyncio.to_thread(self.machines.agent, vm.vmid) if vm.status == "running" else None
        if answer is None:
            raise PveError(500, "QEMU guest agent is not running")
        command = match.template.rsplit("/", 1)[1]
        if command == "ping":
            return {"result": {}}
        if command != "network-get-interfaces":
            raise PveError(501, f"the lab's guest agent knows no {command}")
        interfaces: Any = answer["interfaces"]
        return {
            "result": [
                {
                    "name": name,
                    "hardware-address": mac,
                    "ip-addresses": [
                        {"ip-address": a.split("/")[0], "ip-address-type": "ipv4", "prefix": int(a.split("/")[1])}
                        for a in addresses
                    ],
                }
                for name, mac, addresses in interfaces
            ]
        }

    def _cards_of(self, vm: Any) -> list[str]:
        names = [properties(v).get("mapping", "") for k, v in sorted(vm.config.items()) if HOSTPCI.fullmatch(k)]
        return [row["path"] for name in names if (row := self._mapping_path(name))]

    def _check_cards(self, vm: Any) -> None:
        for key, value in sorted(vm.config.items()):
            if not HOSTPCI.fullmatch(key):
                continue
            name = properties(value).get("mapping", "")
            row = self._mapping_path(name)
            if row is None:
                raise TaskError(f"PCI device mapping not found for '{name}'")
            if wrong := self._mapping_error(name):
                raise TaskError(f"PCI device mapping invalid (hardware probably changed): {wrong}")
            for other in self.vms:
                if other is not vm and other.status == "running" and row["path"] in self._cards_of(other):
                    raise TaskError(f"PCI device '{row['path']}' already in use by VMID '{other.vmid}'")

    def _machine(self, vm: Any) -> Machine:
        config = vm.config
        disks = []
        for key in sorted(config):
            if re.fullmatch(r"scsi\d+", key):
                volume, options = split_drive(config[key])
                storage, name = volume_ref(volume)
                disks.append(Disk(key, int(self._volumes(storage)[name]["size"]), dict(options).get("serial", "")))
        address = properties(config.get("ipconfig0", ""))
        mac = re.search(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", str(config.get("net0", "")))
        if mac is None or "ip" not in address:
            raise MachineError("the lab boots only VMs with net0 and ipconfig0")
        keys = urllib.parse.unquote(str(config.get("sshkeys", ""))).splitlines()
        return Machine(
            vmid=vm.vmid,
            name=str(config.get("name", f"vm{vm.vmid}")),
            cpus=int(config.get("cores", 1)) * int(config.get("sockets", 1)),
            memory=int(config.get("memory", 512)) << 20,
            disks=tuple(disks),
            mac=mac[0].lower(),
            cloud_init=CloudInit(
                str(config.get("ciuser", "root")),
                tuple(key for key in keys if key.strip()),
                address["ip"],
                address.get("gw", ""),
                tuple(str(config.get("nameserver", "")).split()),
                str(config.get("searchdomain", "")),
            ),
            gpus=tuple(self._cards_of(vm)),
        )


def _as_list(value: Any) -> list[str]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


async def _fetch(url: str) -> bytes:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.get(url) as answer,
        ):
            if answer.status != 200:
                raise TaskError(f"download failed: {answer.status} {answer.reason}")
            return await answer.read()
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        raise TaskError(f"download failed: {error}") from error


async def serve(pve: LabPve, certificate: tuple[Path, Path]) -> None:
    """Listen on the address that the emulator was made with."""
    await pve.start(str(certificate[0]), str(certificate[1]))
