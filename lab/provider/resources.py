"""The three resources over the Proxmox API, behaving as the real provider was seen to behave."""

from __future__ import annotations

import os
import re
import time
import urllib.parse
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import requests
from proxmoxer import ProxmoxAPI
from proxmoxer.core import AuthenticationError, ResourceException
from tf.types import Unknown

SECONDS = 60
State = dict[str, Any]


class Failed(Exception):
    """Becomes a diagnostic."""

    def __init__(self, summary: str, detail: str = "") -> None:
        super().__init__(f"{summary}: {detail}" if detail else summary)
        self.summary, self.detail = summary, detail


@contextmanager
def _translated(what: str) -> Any:
    try:
        yield
    except ResourceException as error:
        text = f"{error.status_code} {error.status_message} {error.content or ''} {error.errors or ''}"
        raise Failed(f"error {what}", f"received an HTTP {' '.join(text.split())}") from error
    except (AuthenticationError, requests.exceptions.RequestException) as error:
        raise Failed(f"error {what}", str(error)) from error


def client(endpoint: str, token: str) -> Any:
    """A client for ``https://host:port`` and ``user@realm!name=secret``."""
    url = urllib.parse.urlparse(endpoint)
    who, _, secret = token.partition("=")
    user, _, name = who.partition("!")
    if not (url.hostname and user and name and secret):
        raise Failed("the endpoint or the API token is missing or has the wrong shape")
    return ProxmoxAPI(
        url.hostname,
        port=url.port or 8006,
        user=user,
        token_name=name,
        token_value=secret,
        verify_ssl=os.environ.get("SSL_CERT_FILE") or True,
        timeout=SECONDS,
    )


def known(value: Any) -> Any:
    """The value with everything that is computed set to null."""
    if isinstance(value, dict):
        return {key: known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [known(item) for item in value]
    return None if value is Unknown else value


def _options(text: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in text.split(","))


class Kind:
    """A resource; ``partial`` is what exists after a creation that failed half-way."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.partial: State | None = None

    def wait(self, upid: str, seconds: float, what: str) -> None:
        """Until the task has ended; Failed with its error."""
        until = time.monotonic() + seconds
        while True:
            with _translated(what):
                status = self.api.nodes(upid.split(":")[1]).tasks(upid).status.get()
            if status["status"] == "stopped":
                if status["exitstatus"] != "OK":
                    raise Failed(f"error {what}", f"task failed: {status['exitstatus']}")
                return
            if time.monotonic() > until:
                raise Failed(f"error {what}", f"timeout while waiting for task {upid}")
            time.sleep(0.2)


class Mapping(Kind):
    def _rows(self, state: State) -> list[str]:
        names = (
            ("id", "id"),
            ("node", "node"),
            ("path", "path"),
            ("iommu_group", "iommugroup"),
            ("subsystem_id", "subsystem-id"),
        )
        return [",".join(f"{pve}={row[n]}" for n, pve in names if row.get(n) is not None) for row in state["map"]]

    def create(self, state: State) -> State:
        with _translated("creating hardware mapping"):
            self.api.cluster.mapping.pci.post(
                id=state["name"], map=self._rows(state), description=state.get("comment") or ""
            )
        return {**state, "id": state["name"]}

    def update(self, _prior: State, state: State) -> State:
        with _translated("updating hardware mapping"):
            self.api.cluster.mapping.pci(state["name"]).put(
                map=self._rows(state), description=state.get("comment") or ""
            )
        return state

    def delete(self, state: State) -> None:
        with _translated("deleting hardware mapping"):
            self.api.cluster.mapping.pci(state["name"]).delete()

    def read(self, state: State) -> State | None:
        try:
            with _translated("reading hardware mapping"):
                found = self.api.cluster.mapping.pci(state["name"]).get()
        except Failed as error:
            if "does not exist" in error.detail:
                return None
            raise
        rows = []
        for text in found["map"]:
            row = _options(text)
            rows.append(
                {
                    "id": row["id"],
                    "node": row["node"],
                    "path": row["path"],
                    "iommu_group": int(row["iommugroup"]) if "iommugroup" in row else None,
                    "subsystem_id": row.get("subsystem-id"),
                    "comment": None,
                }
            )
        return {**state, "id": state["name"], "comment": found.get("description"), "map": rows}


class Download(Kind):
    def create(self, state: State) -> State:
        checked = {"checksum": state["checksum"], "checksum-algorithm": state["checksum_algorithm"]}
        with _translated("downloading file"):
            task = (
                self.api.nodes(state["node_name"])
                .storage(state["datastore_id"])("download-url")
                .post(
                    content=state["content_type"],
                    filename=state["file_name"],
                    url=state["url"],
                    **(checked if state.get("checksum") else {}),
                )
            )
        self.wait(task, 600, "downloading file")
        made = self.read({**state, "id": f"{state['datastore_id']}:{state['content_type']}/{state['file_name']}"})
        if made is None:
            raise Failed("error downloading file", "the file is not there after the download")
        return made

    def update(self, _prior: State, state: State) -> State:
        return state

    def delete(self, state: State) -> None:
        with _translated("deleting file"):
            task = self.api.nodes(state["node_name"]).storage(state["datastore_id"]).content(state["id"]).delete()
        if isinstance(task, str) and task.startswith("UPID"):
            self.wait(task, 60, "deleting file")

    def read(self, state: State) -> State | None:
        with _translated("reading storage content"):
            files = self.api.nodes(state["node_name"]).storage(state["datastore_id"]).content.get()
        return next(({**state, "size": f["size"]} for f in files if f["volid"] == state["id"]), None)


def _bit(value: object) -> int:
    return 1 if value else 0


class Vm(Kind):
    def _settings(self, s: State) -> dict[str, Any]:
        """Everything but disks and cloud-init drive."""
        cpu, memory = s["cpu"][0], s["memory"][0]
        p: dict[str, Any] = {
            "name": s["name"],
            "description": s["description"],
            "tags": ";".join(s["tags"] or []),
            "machine": s["machine"],
            "bios": s["bios"],
            "scsihw": s["scsi_hardware"],
            "boot": f"order={';'.join(s['boot_order'])}",
            "onboot": _bit(s["on_boot"]),
            "cores": cpu["cores"],
            "sockets": cpu["sockets"],
            "cpu": cpu["type"],
            "numa": _bit(cpu["numa"]),
            "memory": str(memory["dedicated"]),
            "balloon": memory["floating"],
            "agent": f"enabled={_bit(s['agent'][0]['enabled'])},fstrim_cloned_disks={_bit(s['agent'][0]['trim'])}",
            "ostype": s["operating_system"][0]["type"],
            "vga": s["vga"][0]["type"],
            "serial0": "socket",
        }
        for card in s["hostpci"]:
            p[card["device"]] = f"mapping={card['mapping']},pcie={_bit(card['pcie'])},rombar={_bit(card['rombar'])}"
        for index, device in enumerate(s["network_device"] or []):
            mac = device.get("mac_address")
            extra = "".join(
                f",{pve}={device[name]}" for name, pve in (("vlan_id", "tag"), ("mtu", "mtu")) if device.get(name)
            )
            p[f"net{index}"] = f"{device['model']}{'=' + mac if mac else ''},bridge={device['bridge']}{extra}"
        p.update(self._cloud_init(s))
        return p

    def _cloud_init(self, s: State) -> dict[str, Any]:
        init = s["initialization"][0]
        p: dict[str, Any] = {}
        for dns in init["dns"]:
            p["searchdomain"], p["nameserver"] = dns["domain"], " ".join(dns["servers"] or [])
        for index, one in enumerate(init["ip_config"]):
            v4 = one["ipv4"][0]
            p[f"ipconfig{index}"] = f"ip={v4['address']}" + (f",gw={v4['gateway']}" if v4.get("gateway") else "")
        for account in init["user_account"]:
            p["ciuser"] = account["username"]
            p["sshkeys"] = urllib.parse.quote("\n".join(account["keys"] or []), safe="")
        return p

    def _disk(self, d: State) -> str:
        serial = f",serial={d['serial']}" if d.get("serial") else ""
        options = (
            f",iothread={_bit(d['iothread'])},discard={d['discard']},ssd={_bit(d['ssd'])},backup={_bit(d['backup'])}"
        )
        if d.get("import_from"):
            return f"{d['datastore_id']}:0,import-from={d['import_from']}{options}{serial}"
        return f"{d['datastore_id']}:{d['size']}{options}{serial}"

    def _vm(self, s: State) -> Any:
        return self.api.nodes(s["node_name"]).qemu(int(s["vm_id"]))

    def create(self, s: State) -> State:
        existing = self._find(int(s["vm_id"]))
        if existing is None:
            p = self._settings(s)
            for d in s["disk"]:
                p[d["interface"]] = self._disk(d)
            efi = s["efi_disk"][0]
            p["efidisk0"] = (
                f"{efi['datastore_id']}:1,efitype={efi['type']},pre-enrolled-keys={_bit(efi['pre_enrolled_keys'])}"
            )
            init = s["initialization"][0]
            p[init["interface"] or "ide2"] = f"{init['datastore_id']}:cloudinit,media=cdrom"
            with _translated("creating VM"):
                task = self.api.nodes(s["node_name"]).qemu.post(vmid=s["vm_id"], **p)
            self.wait(task, s["timeout_create"], "creating VM")
        # like the real provider, an existing VM of this id is silently taken over
        self.partial = {**s, "id": str(s["vm_id"])}
        with _translated("reading VM"):
            config = self._vm(s).config.get()
        for d in s["disk"]:
            self._grow(s, d, config)
        if s["started"]:
            self._start(s)
        made = self.read({**s, "id": str(s["vm_id"])})
        if made is None:
            raise Failed("error reading VM", "the VM is not there after its creation")
        return made

    def _grow(self, s: State, d: State, config: dict[str, Any]) -> None:
        now = _gib(_options(config.get(d["interface"], "")).get("size", ""))
        if now is not None and d["size"] > now:
            with _translated("resizing disk"):
                task = self._vm(s).resize.put(disk=d["interface"], size=f"{d['size']}G")
            if isinstance(task, str) and task.startswith("UPID"):
                self.wait(task, 300, "resizing disk")
        elif now is not None and d["size"] < now:
            raise Failed("error resizing disk", f"{d['interface']} cannot shrink from {now} to {d['size']} GiB")

    def _start(self, s: State) -> None:
        with _translated("starting VM"):
            if self._vm(s).status.current.get()["status"] == "running":
                return
            task = self._vm(s).status.start.post()
        self.wait(task, s["timeout_start_vm"], "starting VM")

    def update(self, prior: State, s: State) -> State:
        p = self._settings(s)
        with _translated("reading VM"):
            config = self._vm(s).config.get()
        cards = [card["device"] for card in s["hostpci"]]
        if gone := [card["device"] for card in prior["hostpci"] if card["device"] not in cards]:
            p["delete"] = ",".join(gone)
        disks = {d["interface"] for d in prior["disk"]}
        for d in s["disk"]:
            if d["interface"] not in disks and d["interface"] not in config:
                p[d["interface"]] = self._disk(d)
        with _translated("updating VM"):
            self._vm(s).config.put(**p)
            config = self._vm(s).config.get()
        for d in s["disk"]:
            self._grow(s, d, config)
        cycled = ("cpu", "memory", "hostpci", "machine", "bios")
        if any(prior[name] != s[name] for name in cycled) or disks != {d["interface"] for d in s["disk"]}:
            self._power_cycle(s)
        if s["started"]:
            self._start(s)
        return self.read(s) or s

    def _power_cycle(self, s: State) -> None:
        with _translated("stopping VM"):
            if self._vm(s).status.current.get()["status"] != "running":
                return
            task = self._vm(s).status.shutdown.post(timeout=s["timeout_shutdown_vm"], forceStop=1)
        self.wait(task, s["timeout_shutdown_vm"] + 30, "stopping VM")

    def delete(self, s: State) -> None:
        if self._find(int(s["id"])) is None:
            return
        with _translated("stopping VM"):
            running = self._vm(s).status.current.get()["status"] == "running"
            action: Callable[..., Any] = self._vm(s).status.stop.post
            task = action() if running else None
        if task:
            self.wait(task, s["timeout_stop_vm"], "stopping VM")
        with _translated("deleting VM"):
            task = self._vm(s).delete(**{"purge": 1, "destroy-unreferenced-disks": 1})
        self.wait(task, 300, "deleting VM")

    def _find(self, vmid: int) -> dict[str, Any] | None:
        with _translated("listing VMs"):
            found: list[dict[str, Any]] = self.api.cluster.resources.get(type="vm")
        return next((vm for vm in found if vm["vmid"] == vmid), None)

    def read(self, s: State) -> State | None:
        vmid = int(s["id"])
        here = self._find(vmid)
        if here is None:
            return None
        s = {**s, "node_name": here["node"], "vm_id": vmid, "id": str(vmid)}
        with _translated("reading VM"):
            c = self._vm(s).config.get()
        macs = [m[0] for key in sorted(c) if re.fullmatch(r"net\d+", key) and (m := _mac(c[key]))]
        s.update(
            name=c.get("name"),
            description=c.get("description"),
            tags=str(c["tags"]).split(";") if c.get("tags") else s.get("tags"),
            mac_addresses=macs,
            started=s["started"] if s.get("started") is None else here["status"] == "running",
        )
        if isinstance(s.get("network_device"), list):
            s["network_device"] = [
                {**device, "mac_address": macs[i] if i < len(macs) else ""}
                for i, device in enumerate(s["network_device"])
            ]
        if s["cpu"]:
            s["cpu"] = [{**s["cpu"][0], "cores": int(c.get("cores", 1)), "type": c.get("cpu", "kvm64")}]
        if s["memory"]:
            s["memory"] = [{**s["memory"][0], "dedicated": int(c.get("memory", 512))}]
        disks = []
        for d in s["disk"]:
            if d["interface"] in c:
                size = _gib(_options(c[d["interface"]]).get("size", ""))
                disks.append({**d, "size": size if size is not None else d["size"]})
        s["disk"] = disks
        s["hostpci"] = [
            {**card, "mapping": _options(c[card["device"]]).get("mapping", "")}
            for card in s["hostpci"]
            if card["device"] in c
        ]
        return s


def _mac(text: str) -> re.Match[str] | None:
    return re.search(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text)


def _gib(text: str) -> int | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MGT])?", text)
    if match is None:
        return None
    scale = {"M": 1 / 1024, "G": 1, "T": 1024}
    return int(float(match[1]) * (scale[match[2]] if match[2] else 1 / (1 << 30)))


KINDS: dict[str, type[Any]] = {
    "proxmox_virtual_environment_vm": Vm,
    "proxmox_hardware_mapping_pci": Mapping,
    "proxmox_download_file": Download,
}
