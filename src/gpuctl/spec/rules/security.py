"""What must not be open."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from gpuctl.spec.forms import BACKEND_SECRETS
from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved, SecretRef
from gpuctl.spec.rules.base import Broken, Loc, Rule

# Git hosts take a token in the place of the user's name, which is much shorter
SECRET_IN_URL = re.compile(r"\w+://[^/@\s]*:[^/@\s]+@|https?://[^/@\s]{20,}@")
HTTPS = re.compile(r"https://[A-Za-z0-9_]([-A-Za-z0-9._]*[A-Za-z0-9_])?(:(?P<port>[0-9]{1,5}))?/?")
# options may stand before the key
PUBLIC_KEY = re.compile(
    r"(.*\s)?(?P<key>(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
    r" AAAA[0-9A-Za-z+/]*=*)( .*)?"
)
# folders whose content changes under the same address
MOVING = ("current", "latest", "daily", "release")
# where anybody can have an account
PUBLIC_LOGINS = ("github.com", "gitlab.com", "accounts.google.com", "login.microsoftonline.com/common", "orcid.org")


def _https(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    endpoint, place = cluster.site.proxmox.endpoint, ("site", "proxmox", "endpoint")
    if not endpoint.startswith("https://"):
        yield place, f"{endpoint!r} does not start with https://", "https://pve.example:8006"
    elif not (parts := HTTPS.fullmatch(endpoint)) or int(parts["port"] or 443) > 65535:
        # it may hold a password: it is not repeated
        yield (
            place,
            "the endpoint is not just a host (a name or an IPv4 address) and a port",
            "https://pve.example:8006",
        )
    if cluster.site.proxmox.ca is not None and not cluster.site.proxmox.ca.startswith("file:"):
        yield ("site", "proxmox", "ca"), "the CA is given as a file", "write it like file:./pve-ca.pem"


def _dummy(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    hub = cluster.jupyterhub
    if hub and hub.auth.kind == "dummy" and not hub.auth.i_know_that_anybody_can_log_in:
        yield (
            ("jupyterhub", "auth", "kind"),
            "with dummy anybody can log in as anybody",
            "use oauth or ldap, or add i_know_that_anybody_can_log_in: true",
        )


def _placeholder(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    if not resolved.image.checksum.strip("0") and resolved.site.mirrors.os_image is None:
        yield ("image", "checksum"), "this checksum is a placeholder", "put in the one published beside the image"


def _secrets(resolved: Resolved) -> Iterator[tuple[Loc, SecretRef | None]]:
    """Every secret of the spec with its place."""
    yield ("site", "proxmox", "token"), resolved.site.proxmox.token
    for name, value in resolved.site.backend:
        if isinstance(value, SecretRef):
            yield ("site", "backend", name), value
    if ca := resolved.certificates.ca:
        yield ("management", "certificates", "ca", "key"), ca.key
    if resolved.gitops and (known := resolved.gitops.credentials):
        yield ("management", "gitops", "credentials", "password"), known.password
        yield ("management", "gitops", "credentials", "ssh_key"), known.ssh_key
    if resolved.jupyterhub:
        auth = resolved.jupyterhub.auth
        yield ("jupyterhub", "auth", "password"), auth.password
        if auth.oauth:
            yield ("jupyterhub", "auth", "oauth", "client_secret"), auth.oauth.client_secret
        if auth.ldap:
            yield ("jupyterhub", "auth", "ldap", "search_password"), auth.ldap.search_password


def _readable(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    """Looks at the file's mode, never into it; a file that is not there yet is no finding."""
    for loc, ref in _secrets(resolved):
        if ref and ref.kind == "file":
            try:
                mode = Path(ref.value).stat().st_mode
            except (OSError, ValueError):
                continue
            if mode & stat.S_IROTH:
                yield loc, f"everybody on this machine can read {ref.value}", f"chmod 600 {ref.value}"


def _literal(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    # a setting given by reference is no text any more
    backend = {name: value for name, value in resolved.site.backend if isinstance(value, str)}
    for name in backend:
        if BACKEND_SECRETS.search(name):
            wrong = f"{name} stands here for everybody who reads the spec"
            way_out = "write env:NAME, file:PATH or sops:PATH#key, or set the variable that this backend reads itself"
            yield ("site", "backend", name), wrong, way_out
    mirrors = cluster.site.mirrors
    addresses: list[tuple[Loc, str | None]] = [
        (("image", "url"), cluster.image.url),
        (("management", "gitops", "repo"), cluster.management.gitops.repo if cluster.management.gitops else None),
        *((("site", "mirrors", name), getattr(mirrors, name)) for name in ("k3s", "charts", "apt", "registry", "git")),
        (("site", "mirrors", "os_image", "url"), mirrors.os_image.url if mirrors.os_image else None),
        *((("site", "backend", name), value) for name, value in backend.items()),
    ]
    for loc, address in addresses:
        if address and SECRET_IN_URL.search(address):
            way_out = (
                "put it into credentials, by reference"
                if loc[-1] == "repo"
                else "let the server know this site by its network"
            )
            yield loc, "the address holds a password or a token", way_out


def _public(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    vip = cluster.network.api_vip
    if vip.is_global:
        wrong = f"{vip} is an address of the internet, and the Kubernetes API listens on it"
        yield ("network", "api_vip"), wrong, "a private network, or a firewall before port 6443"


def _mirrors(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    mirrors, way_out = cluster.site.mirrors, "https, or a network that nobody else is in"
    for name, address in (("k3s", mirrors.k3s), ("registry", mirrors.registry)):
        if address and address.startswith("http://"):
            wrong = f"what comes from {address} can be changed on its way, and runs as root"
            yield ("site", "mirrors", name), wrong, way_out
    if mirrors.apt and "trusted=yes" in mirrors.apt and "http://" in mirrors.apt:
        yield ("site", "mirrors", "apt"), "unsigned packages over http can be changed on their way", way_out


def pinned(image: str) -> bool:
    """Whether a reference names a tag other than latest, or a digest."""
    name, _colon, tag = image.rpartition(":")
    return bool(name) and "/" not in tag and tag != "latest"


def _images(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    images: list[tuple[Loc, str | None]] = [
        (("gpu", "proof_image"), cluster.gpu.proof_image),
        (("probe_image",), cluster.probe_image),
        (("stress_image",), cluster.stress_image),
    ]
    for loc, image in images:
        if image and not pinned(image):
            yield loc, f"{image} is whatever its registry holds today", "name a tag, or better a digest (@sha256:...)"


def _dated(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    folders = cluster.image.url.split("/")[:-1]
    dated = any(re.search(r"20\d\d-?[01]\d-?[0-3]\d", folder) for folder in folders)
    moving = next((folder for folder in folders if folder in MOVING), None)
    if resolved.site.mirrors.os_image is None and moving and not dated:
        wrong = f"below {moving}/ the image changes, and then its checksum is wrong"
        yield ("image", "url"), wrong, "the address of a dated one, like .../release-20251026/..."


def _keys(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    for number, key in enumerate(cluster.ssh.authorized_keys):
        # it may be a private one: it is not repeated
        wrong, way_out = "", "the line of a .pub file: ssh-ed25519 AAAA... you@there"
        if not (parts := PUBLIC_KEY.fullmatch(key.strip())):
            wrong = "this is no public key of a kind that OpenSSH still takes"
        elif not _whole(parts["key"]):
            wrong = "this public key is cut off, or of another kind than it says"
        if wrong:
            yield ("ssh", "authorized_keys", number), wrong, way_out


def _whole(key: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):  # the last: of a point it cannot read
        return False
    return True


def _anybody(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    hub = resolved.jupyterhub
    if hub and hub.auth.oauth and hub.auth.allow_all:
        where = hub.auth.oauth.authorize_url.removeprefix("https://")
        if public := next((name for name in PUBLIC_LOGINS if f"{where}/".startswith(f"{name}/")), None):
            wrong = f"anybody can have an account at {public}, and allow_all lets all of them in"
            yield ("jupyterhub", "auth", "allow_all"), wrong, "allowed_users, or a login server of your own"


RULES = (
    Rule(
        "SEC-R1", "error", "The API is reached by TLS", "The token would travel in the clear.", _https,
        "Proxmox VE docs: pveum, API tokens (the token is the header Authorization of each request)",
    ),
    Rule(
        "SEC-R2", "error", "No open door by accident",
        "The dummy authenticator lets in any name, without a password or with one for all.", _dummy,
        "JupyterHub documentation, authenticators: DummyAuthenticator, any user name, when testing",
    ),
    Rule(
        "SEC-R3", "warning", "The image is pinned", "An unchecked image is somebody else's root.", _placeholder,
        "Proxmox VE API, download-url: checksum is optional and then not verified (PVE/API2/Storage/Status.pm)",
    ),
    Rule(
        "SEC-R4", "warning", "Secrets are their owner's", "Every account on this machine could use them.", _readable,
        "ssh(1), FILES: ignores a private key that is accessible by others",
    ),
    Rule(
        "SEC-R5", "error", "No secret stands in the spec", "A spec is shared, printed and kept in Git.", _literal,
        "developer.hashicorp.com/terraform/language/backend, credentials and sensitive data",
    ),
    Rule(
        "SEC-R6", "warning", "The API is not on the internet", "It is what attackers look for first.", _public,
        "kubernetes.io/docs/concepts/security/security-checklist, network: API not exposed on the internet",
    ),
    Rule(
        "SEC-R7", "note", "Mirrors are reached by TLS", "Their sums come the same way as what they check.", _mirrors,
        "docs.k3s.io/installation/private-registry, without TLS; sources.list(5): Trusted",
    ),
    Rule(
        "SEC-R8", "warning", "Images of checks are pinned", "They run on every node.", _images,
        "kubernetes.io/docs/concepts/containers/images: avoid :latest, specify a tag or digest",
    ),
    Rule(
        "SEC-R9", "warning", "The image is a dated one", "It could not be fetched again.", _dated,
        "directories release/ and latest/ of cloud-images.ubuntu.com, cloud.debian.org in lima-vm/lima, templates",
    ),
    Rule(
        "SEC-R10", "error", "Authorized keys are public keys", "Nobody could log in with others.", _keys,
        "sshd(8), AUTHORIZED_KEYS FILE FORMAT; OpenSSH 10.0 release notes: no DSA",
    ),
    Rule(
        "SEC-R11", "warning", "Not everybody on the internet may log in", "GPUs are mined with within hours.", _anybody,
        "OAuthenticator documentation, allowing access: allow_all; pangeo-data/pangeo-binder#188 (mining)",
    ),
)  # fmt: skip
