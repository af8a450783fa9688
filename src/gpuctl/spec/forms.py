"""Texts of a spec that have a form: how each is written, what it is read as, and what editors know of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from gpuctl.spec import schedule, units
from gpuctl.spec.resolved import SecretRef

# of every backend of Terraform 1.11: s3, http, pg, azurerm, gcs, consul, kubernetes, oss, cos, remote
BACKEND_SECRETS = re.compile(
    r"(password|secret|token|secret_?(key|id)|access_?key|conn_str|credentials|client_key|encryption_key)$"
)
MAX_ADDRESSES = 4096


def _secret(value: object) -> SecretRef:
    kind, _, rest = str(value).partition(":")
    forms = {"env": "[A-Za-z_][A-Za-z0-9_]*", "file": r"[\s\S]+", "sops": r"[^#\n]+#\S+"}
    if not isinstance(value, str) or not re.fullmatch(forms.get(kind, "(?!)"), rest):
        # the value may be the secret itself: it is not repeated
        raise ValueError("a secret is given by reference, never literally: env:NAME, file:PATH or sops:PATH#key")
    return SecretRef(kind, rest)  # type: ignore[arg-type]


def backend_secret(name: str, value: str) -> SecretRef | None:
    """A setting of a Terraform backend as a secret, None when its name is not one of a secret. ValueError: literal."""
    return _secret(value) if BACKEND_SECRETS.search(name) else None


def _cidr(value: object) -> IPv4Network:
    if not isinstance(value, str) or "/" not in value:
        raise ValueError(f"{value!r} is not a network; write it like 10.0.0.0/24")
    try:
        return IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a network: {error}") from None


def _address(value: object) -> IPv4Address:
    try:
        return IPv4Address(value) if isinstance(value, str) else IPv4Address("")
    except ValueError:
        raise ValueError(f"{value!r} is not an IPv4 address; write it like 10.0.0.10") from None


def _addresses(value: object) -> tuple[IPv4Address, ...]:
    found: list[IPv4Address] = []
    for part in value if isinstance(value, list) else [value]:
        found += _range(part)
        if len(found) > MAX_ADDRESSES:
            raise ValueError(f"these are more than {MAX_ADDRESSES} addresses")
    return tuple(found)


def _range(value: object) -> tuple[IPv4Address, ...]:
    first, dash, last = str(value).partition("-")
    low = _address(first.strip())
    if not dash:
        return (low,)
    if last.strip().isdecimal() and int(last) <= 255:
        end = f"{low.exploded.rpartition('.')[0]}.{last.strip()}"
        raise ValueError(f"{value!r} is not a range of addresses; write both whole: {low}-{end}")
    high = _address(last.strip())
    if not 0 <= int(high) - int(low) < MAX_ADDRESSES:
        raise ValueError(
            f"{value!r} is not a range of at most {MAX_ADDRESSES} addresses; write it like 10.0.0.11-10.0.0.13"
        )
    return tuple(IPv4Address(number) for number in range(int(low), int(high) + 1))


def _checksum(value: object) -> tuple[str, str]:
    kind, _, digest = str(value).partition(":")
    length = {"sha256": 64, "sha512": 128}.get(kind)
    if length is None or len(digest) != length or set(digest.lower()) - set("0123456789abcdef"):
        raise ValueError("a checksum is sha256: with 64 or sha512: with 128 hex digits")
    return kind, digest.lower()


def _taint(value: object) -> tuple[str, str, str]:
    pair, _, effect = str(value).rpartition(":")
    key, _, content = pair.partition("=")
    if not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise ValueError(f"{value!r} is not a taint; write it like key=value:NoSchedule")
    return key, content, effect


def _ingress(value: object) -> object:
    if value not in ("traefik", "nginx", "none", "ingress-nginx"):
        raise ValueError(f"{value!r} is no ingress controller that gpuctl installs: traefik, nginx or none")
    return value


def _text(example: str, pattern: str) -> WithJsonSchema:
    """What editors know of a text that is checked by a function: the rough form."""
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


_IP = r"\d{1,3}(\.\d{1,3}){3}"
_RANGE = {"type": "string", "pattern": rf"^\s*{_IP}(\s*-\s*{_IP})?\s*$"}

_SIZE = r"^\d+(\.\d+)?\s*[KMGT]i?B$"
SizeOrZero = Annotated[int, BeforeValidator(units.size), _text("8GiB", _SIZE)]
Size = Annotated[SizeOrZero, Field(gt=0), _text("16GiB", _SIZE)]
Duration = Annotated[int, BeforeValidator(units.duration), Field(gt=0), _text("1h", r"^\d+\s*[smhd]$")]
Secret = Annotated[
    SecretRef,
    BeforeValidator(_secret),
    _text("env:PROXMOX_VE_API_TOKEN", r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:[\s\S]+|sops:[^#\n]+#\S+)$"),
]
Cidr = Annotated[IPv4Network, BeforeValidator(_cidr), _text("10.0.0.0/24", rf"^{_IP}/[\d.]+$")]
Address = Annotated[IPv4Address, BeforeValidator(_address), _text("10.0.0.10", rf"^{_IP}$")]
Addresses = Annotated[
    tuple[IPv4Address, ...],
    BeforeValidator(_addresses),
    WithJsonSchema({"anyOf": [_RANGE, {"type": "array", "items": _RANGE}], "examples": ["10.0.0.11-10.0.0.13"]}),
]
Checksum = Annotated[
    tuple[str, str],
    BeforeValidator(_checksum),
    _text("sha256:<64 hex digits>", r"^(sha256:[0-9a-fA-F]{64}|sha512:[0-9a-fA-F]{128})$"),
]
Taint = Annotated[
    tuple[str, str, str],
    BeforeValidator(_taint),
    _text("dedicated=gpu:NoSchedule", r"^[^=]+(=.*)?:(NoSchedule|PreferNoSchedule|NoExecute)$"),
]
# ingress-nginx is read so that VER-05 can refuse it beside every other finding; nothing behind the rules knows it
Ingress = Annotated[
    Literal["traefik", "nginx", "none", "ingress-nginx"],
    BeforeValidator(_ingress),
    WithJsonSchema({"enum": ["traefik", "nginx", "none"], "type": "string"}),
]


@dataclass(frozen=True)
class Form:
    """Annotation of a text that stays as it is written: ``what`` it is, an ``example``, its pattern, whole.

    ``taken``: what has the form and is refused. All of it is told to editors too.
    """

    what: str
    example: str
    pattern: str
    longest: int = 253
    taken: frozenset[str] = frozenset()

    def check(self, value: object) -> object:
        """The value, unless it is a text of another form: ValueError says how it is written."""
        if not isinstance(value, str):
            return value
        fits = len(value) <= self.longest and value not in self.taken and re.fullmatch(self.pattern, value)
        if not fits:
            longer = f" of at most {self.longest} characters" if len(value) > self.longest else ""
            raise ValueError(f"{_brief(value)} is not {self.what}{longer}; write it like {self.example}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        told = {"pattern": f"^({self.pattern})$", "maxLength": self.longest, "examples": [self.example]}
        return {**handler(schema), **told, **({"not": {"enum": sorted(self.taken)}} if self.taken else {})}


def _brief(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:57]}...")


_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_ANY_LABEL = "[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"  # an underscore is no host name's, and yet some have one
# the last part of a name has a letter: else it is taken for an address everywhere
_LAST, _ANY_LAST = "[0-9]*[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "[0-9]*[A-Za-z_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"
DOMAIN, _HOST = rf"{_LABEL}(\.{_LABEL})*", rf"{_ANY_LABEL}(\.{_ANY_LABEL})*"
_BYTE = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
# the grammar of references in github.com/distribution/reference
_PATH = "[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"

Name = Annotated[str, Form("a name of small letters, digits and -", "workers", "[a-z]([-a-z0-9]*[a-z0-9])?", 40)]
# RFC 1123, as Kubernetes wants it: an Ingress takes no capital letter
Hostname = Annotated[str, Form("a host name", "hub.example", rf"({_LABEL}\.)*{_LAST}")]
Domain = Annotated[str, Form("a DNS domain", "cluster.local", DOMAIN)]
HostOrAddress = Annotated[
    str, Form("a host name or an address", "ntp.example", rf"({_ANY_LABEL}\.)*{_ANY_LAST}|{_BYTE}(\.{_BYTE}){{3}}")
]
ClassName = Annotated[str, Form("the name of a storage class", "nfs-client", DOMAIN)]
ContainerImage = Annotated[
    str,
    Form(
        "a container image",
        "quay.io/jupyter/scipy-notebook:2025-10-20",
        rf"({_HOST}(:[0-9]+)?/)?{_PATH}(/{_PATH})*(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@sha(256:[0-9a-f]{{64}}|512:[0-9a-f]{{128}}))?",
        512,
    ),
]
WebAddress = Annotated[str, Form("a web address", "https://mirror.example", r"https?://[^\s/]+(/\S*)?", 2048)]
HttpsAddress = Annotated[str, Form("an https address", "https://login.example", r"https://[^\s/]+(/\S*)?", 2048)]
# a file: address is a folder on the hosts
Releases = Annotated[
    str, Form("a web address", "https://mirror.example/k3s", r"(https?://[^\s/]+|file:///[^\s/]+)(/\S*)?", 2048)
]
GitServer = Annotated[
    str,
    Form("a Git server's address", "https://git.example", r"(https?|ssh)://[^\s/]+(/\S*)?|[\w.-]+@[\w.-]+:\S*", 2048),
]
AptSource = Annotated[
    str,
    Form(
        "a one-line apt source",
        "deb https://mirror.example/ubuntu noble main",
        r"deb([ \t]+\[[^\]\n]+\])?[ \t]+[a-z+]+:\S+[ \t]+(\S*/|\S*[^\s/]([ \t]+\S+)+)",
        2048,
    ),
]
AbsolutePath = Annotated[
    str, Form("an absolute path without blanks", "/srv/export", r"/|(/([^\s/.]|\.[^\s/.]|\.\.[^\s/])[^\s/]*)+/?", 1024)
]
# it becomes the name of a systemd unit
MountPoint = Annotated[
    str,
    Form(
        "an absolute path of letters, digits and ._-",
        "/srv/scratch",
        r"/|(/([A-Za-z0-9_-]|\.[A-Za-z0-9_-]|\.\.[A-Za-z0-9_.-])[A-Za-z0-9_.-]*)+/?",
        1024,
    ),
]
Email = Annotated[str, Form("a mail address", "ops@firm.example", r"[^@\s:]+@[^@\s.]+(\.[^@\s.]+)+")]
# of the server, in its own words: pve-node, pve-storage-id; an interface of Linux has 15 characters
ProxmoxNode = Annotated[str, Form("the name of a Proxmox node", "pve", "[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?", 63)]
StorageId = Annotated[
    str, Form("the name of a Proxmox storage", "local-lvm", "[A-Za-z][-A-Za-z0-9_.]*[A-Za-z0-9]", 100)
]
Bridge = Annotated[str, Form("the name of a bridge", "vmbr0", "[A-Za-z][A-Za-z0-9_.-]*", 15)]
MountOption = Annotated[str, Form("one mount option", "nfsvers=4.1", r"[^\s,]+")]
DriverVersion = Annotated[str, Form("a driver version", "580.95.05", r"[0-9]{3,4}(\.[0-9]{1,3}){2}")]
# git check-ref-format: parts between slashes and dots, without the characters it refuses (and none with {)
_REF = r"[^\s~^:?*\[\\/.{-][^\s~^:?*\[\\/.{]*"
_REF_MORE = r"[^\s~^:?*\[\\/.{]+"
GitBranch = Annotated[
    str, Form("the name of a Git branch", "main", rf"{_REF}(\.{_REF_MORE})*(/{_REF_MORE}(\.{_REF_MORE})*)*")
]
# JupyterHub: a name is a part of addresses
UserName = Annotated[str, Form("the name of a user", "alice", r"[^\s/]([^/\n\r\t]*[^\s/])?", 255)]
Word = Annotated[str, Form("one word", "openid", r"\S+", 1024)]
# of the cloud images; cloud-init leaves a user that is there as it is, most of them without a shell
_USERS = frozenset((
    "_apt", "backup", "bin", "daemon", "dhcpcd", "games", "irc", "list", "lp", "mail", "man", "messagebus", "news",
    "nobody", "polkitd", "pollinate", "proxy", "root", "sshd", "sync", "sys", "syslog", "tcpdump", "tss", "uucp",
    "uuidd", "www-data",
))  # fmt: skip
LinuxUser = Annotated[
    str,
    Form(
        "a user's name that is free in the image",
        "gpuctl",
        "[a-z_][-a-z0-9_]{0,31}",
        taken=_USERS,
    ),
]
_RELEASE = r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}"
Release = Annotated[str, Form("a release", "2.14.0", _RELEASE)]
OperatorRelease = Annotated[str, Form("a release of the GPU Operator", "v25.10.0", f"v{_RELEASE}")]
K3sRelease = Annotated[str, Form("a release of K3s", "v1.35.4+k3s1", rf"v{_RELEASE}\+k3s[0-9]{{1,4}}")]


def _schedule(value: object) -> str:
    try:
        return schedule.checked(value)
    except ValueError as error:
        raise ValueError(f"{_brief(str(value))} is not a cron schedule ({error}); write it like 0 */6 * * *") from None


Schedule = Annotated[str, BeforeValidator(_schedule), _text("0 */6 * * *", r"^\s*\S+(\s+\S+){4}\s*$")]
