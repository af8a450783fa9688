"""The Proxmox VE API: typed readers, and the few deletions that prove a destroy. Terraform makes everything else.

Facts about routes and privileges: https://pve.proxmox.com/pve-docs/api-viewer/.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.redact import Redactor
from gpuctl.run.secrets import read_secret
from gpuctl.spec.resolved import Proxmox as Settings
from gpuctl.spec.resolved import SecretRef

if TYPE_CHECKING:
    from gpuctl.context import Context

SECONDS = 20
TOKEN = re.compile(r"[^@!=\s]+@[^@!=\s]+![^@!=\s]+=[^=\s]+")


@dataclass(frozen=True)
class Vm:
    """A VM of the server, any node. ``status``: running or stopped; ``memory``: bytes at most."""

    vmid: int
    name: str
    node: str
    status: str
    tags: tuple[str, ...]
    memory: int = 0


@dataclass(frozen=True)
class PciMapping:
    """A PCI resource mapping; ``paths`` on our node (``0000:17:00.0``), ``errors`` what Proxmox finds wrong there."""

    name: str
    comment: str
    paths: tuple[str, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Card:
    """An NVIDIA card of the host. ``id`` and ``subsystem_id`` as ``10de:20b5``."""

    path: str
    id: str
    subsystem_id: str
    iommu_group: int
    name: str


@dataclass(frozen=True)
class Store:
    """A storage of our node. ``free`` in bytes."""

    name: str
    active: bool
    content: frozenset[str]
    free: int
    total: int


@dataclass(frozen=True)
class Bridge:
    """A bridge of our node: the host's own address on it with its prefix (``10.0.0.2/24``) and gateway, or ""."""

    cidr: str
    gateway: str


@dataclass(frozen=True)
class Greeting:
    """What the server shows before any token: ``names`` and end of its certificate, and its clock.

    ``untrusted``: why the certificate is not trusted, "" when it is. ``ahead``: seconds that its clock is ahead of
    ours, exact to half a second and the way there; None when it told no time.
    """

    names: tuple[str, ...]
    expires: datetime
    untrusted: str
    ahead: float | None


@dataclass(frozen=True)
class Volume:
    """A volume: its id (``local-lvm:vm-9011-disk-0``), its VM if it belongs to one, its bytes."""

    volid: str
    vmid: int | None
    size: int


def token_of(ctx: Context) -> str:
    """The token of the site."""
    return read_token(ctx.spec.site.proxmox.token, ctx.redactor)


def read_token(ref: SecretRef, redactor: Redactor) -> str:
    """``user@realm!name=secret``, read and known to the redactor. GpuctlError (exit 4) when it has another shape."""
    token = read_secret(ref, redactor)
    if not TOKEN.fullmatch(token):
        raise GpuctlError(
            f"the Proxmox token from {ref} has the wrong shape",
            cause="expected user@realm!tokenname=secret",
            next="pveum user token add USER@pve NAME --privsep 0 on the Proxmox host prints one",
            exit_code=Exit.CREDENTIALS,
        )
    redactor.add(token.partition("=")[2])
    return token


class Proxmox:
    """One server. Every call has a timeout and raises GpuctlError only."""

    def __init__(self, settings: Settings, token: str) -> None:
        self._settings = settings
        self._token = token
        self._client: Any = None

    @classmethod
    def of(cls, ctx: Context) -> Proxmox:
        return cls(ctx.spec.site.proxmox, token_of(ctx))

    # --- readers

    def version(self) -> str:
        """``9.0.10``."""
        return str(self._get("version")["version"])

    def permissions(self) -> dict[str, frozenset[str]]:
        """Privileges of our token by path, as the server resolves them."""
        found: Mapping[str, Mapping[str, int]] = self._get("access/permissions")
        # a value of 0 means granted but not passed on to paths below; granted all the same
        return {path: frozenset(privileges) for path, privileges in found.items()}

    def nodes(self) -> dict[str, bool]:
        """Whether each node of the server is online, by name."""
        return {str(node["node"]): node.get("status") == "online" for node in self._get("nodes")}

    def capacity(self) -> tuple[int, int]:
        """Bytes of memory and threads of our node."""
        status = self._get(f"nodes/{self._settings.node}/status")
        return int(status["memory"]["total"]), int(status["cpuinfo"]["cpus"])

    def vms(self) -> list[Vm]:
        """Every VM that the token may see."""
        return [
            Vm(
                int(entry["vmid"]),
                str(entry.get("name", "")),
                str(entry["node"]),
                str(entry.get("status", "unknown")),
                tuple(sorted(filter(None, re.split("[;, ]", str(entry.get("tags", "")))))),
                int(entry.get("maxmem", 0)),
            )
            for entry in self._get("cluster/resources", type="vm")
            if entry.get("type", "qemu") == "qemu"
        ]

    def config(self, vmid: int, node: str = "") -> dict[str, str]:
        """A VM's configuration as it is (what is pending is not in it), values as text."""
        found = self._get(f"nodes/{node or self._settings.node}/qemu/{vmid}/config", current=1)
        return {str(key): str(value) for key, value in found.items()}

    def mappings(self) -> dict[str, PciMapping]:
        """PCI mappings by name."""
        made = {}
        for entry in self._get("cluster/mapping/pci", **{"check-node": self._settings.node}):
            maps = entry.get("map", [])
            rows = [_properties(row) for row in ([maps] if isinstance(maps, str) else maps)]
            paths = tuple(row.get("path", "") for row in rows if row.get("node") == self._settings.node)
            errors = tuple(str(c["message"]) for c in entry.get("checks", ()) if c.get("severity") == "error")
            name = str(entry["id"])
            made[name] = PciMapping(name, str(entry.get("description", "")), paths, errors)
        return made

    def cards(self) -> list[Card]:
        """The NVIDIA display and 3D controllers of our node, by path."""
        found = []
        for device in self._get(f"nodes/{self._settings.node}/hardware/pci"):
            vendor, display = _hex(device.get("vendor")), _hex(device.get("class"))
            if vendor != "10de" or not display.startswith("03"):
                continue
            subsystem = f"{_hex(device.get('subsystem_vendor'))}:{_hex(device.get('subsystem_device'))}"
            found.append(
                Card(
                    str(device["id"]),
                    f"{vendor}:{_hex(device.get('device'))}",
                    subsystem,
                    int(device.get("iommugroup", -1)),
                    str(device.get("device_name", "NVIDIA card")),
                )
            )
        return sorted(found)

    def iommu_groups(self) -> dict[str, int]:
        """IOMMU group by path of the devices that the API lists (bridges and the like are not); -1: IOMMU is off."""
        devices = self._get(f"nodes/{self._settings.node}/hardware/pci")
        return {str(device["id"]): int(device.get("iommugroup", -1)) for device in devices}

    def stores(self) -> dict[str, Store]:
        """Storages of our node by name."""
        return {
            str(entry["storage"]): Store(
                str(entry["storage"]),
                bool(entry.get("active", 1)) and bool(entry.get("enabled", 1)),
                frozenset(str(entry.get("content", "")).split(",")),
                int(entry.get("avail", 0)),
                int(entry.get("total", 0)),
            )
            for entry in self._get(f"nodes/{self._settings.node}/storage")
        }

    def volumes(self, store: str) -> list[Volume]:
        """What is on a storage."""
        return [
            Volume(str(v["volid"]), int(v["vmid"]) if v.get("vmid") else None, int(v.get("size", 0)))
            for v in self._get(f"nodes/{self._settings.node}/storage/{store}/content")
        ]

    def bridges(self) -> dict[str, Bridge]:
        """The node's bridges (Linux, OVS and SDN vnets) by name."""
        found = self._get(f"nodes/{self._settings.node}/network", type="any_bridge")
        return {str(e["iface"]): Bridge(str(e.get("cidr", "")), str(e.get("gateway", ""))) for e in found}

    def look_at_url(self, url: str) -> None:
        """Let the server ask for the head of what is at the URL. GpuctlError when it cannot reach it."""
        self._get(f"nodes/{self._settings.node}/query-url-metadata", url=url)

    def ping_agent(self, vmid: int) -> bool:
        """Whether the guest agent of the VM answers."""
        try:
            with self._translated("agent ping"):
                self._api().nodes(self._settings.node).qemu(vmid).agent("ping").post()
        except GpuctlError:
            return False
        return True

    # --- deletions, for what Terraform's state does not know

    def delete_volume(self, volid: str, deadline: Deadline) -> None:
        """Delete an image or a disk nobody owns any more."""
        store = volid.split(":")[0]
        with self._translated(f"delete {volid}"):
            task = self._api().nodes(self._settings.node).storage(store).content(volid).delete()
        self._finish(task, deadline, f"deleting {volid}")

    def delete_mapping(self, name: str) -> None:
        with self._translated(f"delete mapping {name}"):
            self._api().cluster.mapping.pci(name).delete()

    def delete_vm(self, vmid: int, deadline: Deadline) -> None:
        """Stop and delete a VM with its disks. Callers have proven that it is ours."""
        node = self._api().nodes(self._settings.node)
        with self._translated(f"stop VM {vmid}"):
            running = node.qemu(vmid).status.current.get()["status"] == "running"
            stopping = node.qemu(vmid).status.stop.post() if running else None
        self._finish(stopping, deadline, f"stopping VM {vmid}")
        with self._translated(f"delete VM {vmid}"):
            task = node.qemu(vmid).delete(**{"purge": 1, "destroy-unreferenced-disks": 1})
        self._finish(task, deadline, f"deleting VM {vmid}")

    def _finish(self, task: object, deadline: Deadline, what: str) -> None:
        if not isinstance(task, str) or not task.startswith("UPID:"):
            return
        node = task.split(":")[1]
        for _ in deadline.ticks(0.5):
            status = self._get(f"nodes/{node}/tasks/{task}/status")
            if status.get("status") == "stopped":
                if status.get("exitstatus") != "OK":
                    raise GpuctlError(f"{what} failed: {status.get('exitstatus')}", where=f"Proxmox task {task}")
                return
        raise GpuctlError(f"{what}: not done within {deadline.seconds:.0f} s", where=f"Proxmox task {task}")

    # --- the client

    def _api(self) -> Any:
        if self._client is None:
            from proxmoxer import ProxmoxAPI

            address = self._settings.endpoint.removeprefix("https://")
            host, _, port = address.partition(":")
            user, _, rest = self._token.partition("!")
            name, _, secret = rest.partition("=")
            if self._settings.ca:
                _trusting(self._settings.ca)
            self._client = ProxmoxAPI(
                host,
                port=int(port or 8006),
                user=user,
                token_name=name,
                token_value=secret,
                verify_ssl=self._settings.ca or True,
                timeout=SECONDS,
            )
        return self._client

    def _get(self, path: str, **query: object) -> Any:
        with self._translated(f"GET /{path}"):
            return self._api()(path).get(**query)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        import requests
        from proxmoxer.core import AuthenticationError, ResourceException

        where = f"{self._settings.endpoint} ({what})"
        try:
            yield
        except ResourceException as error:
            detail = " ".join(str(error.content or error.errors or "").split())
            raise _refusal(int(error.status_code), f"{error.status_message} {detail}".strip(), where) from error
        except AuthenticationError as error:
            raise _refusal(401, str(error), where) from error
        except requests.exceptions.SSLError as error:
            raise GpuctlError(
                "the Proxmox API's certificate is not trusted",
                where=where,
                cause=_innermost(error),
                next="set site.proxmox.ca to the server's CA (file:./pve-ca.pem; /etc/pve/pve-root-ca.pem on the host)",
                exit_code=Exit.CREDENTIALS,
            ) from error
        except (requests.exceptions.RequestException, OSError) as error:
            raise GpuctlError(
                "the Proxmox API does not answer",
                where=where,
                cause=_innermost(error),
                next="check site.proxmox.endpoint and the network to it (curl -k ENDPOINT)",
            ) from error


def greet(endpoint: str, ca: str | None) -> Greeting:
    """Ask without a token. GpuctlError: the CA cannot be read, or nothing answers with TLS."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    host, _, port = endpoint.removeprefix("https://").partition(":")
    strict = _trusting(ca or DEFAULT_CA_BUNDLE_PATH)
    lax = ssl.create_default_context()
    lax.check_hostname, lax.verify_mode = False, ssl.CERT_NONE
    try:
        try:
            return _greeted(host, int(port or 8006), strict)
        except ssl.SSLCertVerificationError as error:
            untrusted = error.verify_message
        # to tell what is wrong with it; nothing of ours is sent
        return replace(_greeted(host, int(port or 8006), lax), untrusted=untrusted)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise GpuctlError("the Proxmox API does not answer", where=endpoint, cause=_innermost(error)) from error


def _trusting(ca: str) -> ssl.SSLContext:
    """What trusts this CA only. GpuctlError: it cannot be read, which requests would call a server that is silent."""
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise GpuctlError(
            f"the CA {ca} cannot be read",
            where="site.proxmox.ca",
            cause=str(error),
            next="copy /etc/pve/pve-root-ca.pem from the Proxmox host there, or correct site.proxmox.ca",
            exit_code=Exit.CREDENTIALS,
        ) from error


def _greeted(host: str, port: int, context: ssl.SSLContext) -> Greeting:
    from cryptography import x509

    connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    try:
        connection.connect()
        raw = connection.sock.getpeercert(binary_form=True) or b""
        before = time.time()
        connection.request("GET", "/api2/json/version")
        said = connection.getresponse().getheader("Date")
        after = time.time()
    finally:
        connection.close()
    certificate = x509.load_der_x509_certificate(raw)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = tuple(str(name.value) for name in names)
    except x509.ExtensionNotFound:
        shown = ()
    # the header has whole seconds
    ahead = parsedate_to_datetime(said).timestamp() + 0.5 - (before + after) / 2 if said else None
    return Greeting(shown, certificate.not_valid_after_utc, "", ahead)


def cards_of(config: Mapping[str, str], mappings: Mapping[str, PciMapping]) -> tuple[str, ...]:
    """Paths of the cards that a VM's configuration gives it, through mappings or by raw address."""
    found: list[str] = []
    for key, value in config.items():
        if re.fullmatch(r"hostpci\d+", key):
            options = _properties(value)
            if mapping := mappings.get(options.get("mapping", "")):
                found += mapping.paths
            else:
                # "0000:17:00.0", "17:00" for all functions, or "host=..."; several are joined by ";"
                raw = options.get("host") or value.split(",")[0]
                found += [_full_path(part) for part in raw.split(";") if ":" in part]
    return tuple(found)


def _full_path(path: str) -> str:
    path = path if path.count(":") == 2 else f"0000:{path}"
    return path if "." in path else f"{path}.0"


def _refusal(status: int, text: str, where: str) -> GpuctlError:
    if status == 401:
        return GpuctlError(
            "the Proxmox API refuses the token",
            where=where,
            cause=f"401 {text}: the token is wrong, was revoked or has expired",
            next="make a new one (pveum user token add ...) and put it where site.proxmox.token points",
            exit_code=Exit.CREDENTIALS,
        )
    if status == 403:
        return GpuctlError(
            "the token lacks a privilege",
            where=where,
            cause=f"403 {text}",
            next="grant it on the Proxmox host; docs/getting-started.md has the least-privilege role",
            exit_code=Exit.CREDENTIALS,
        )
    return GpuctlError(f"the Proxmox API refused: {status} {text}", where=where)


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__


def _properties(row: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in row.split(","))


def _hex(value: object) -> str:
    return str(value or "").removeprefix("0x").lower()
