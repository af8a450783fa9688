"""What must not be open."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpuctl.spec.model import BACKEND_SECRETS, Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule

PASSWORD_IN_ADDRESS = re.compile(r"://[^/@]*:[^/@]+@")


def _https(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    endpoint = cluster.site.proxmox.endpoint
    rest = endpoint.removeprefix("https://")
    if not endpoint.startswith("https://"):
        yield ("site", "proxmox", "endpoint"), f"{endpoint!r} does not start with https://", "https://pve.example:8006"
    elif not rest or "/" in rest.rstrip("/"):
        yield ("site", "proxmox", "endpoint"), "the endpoint has a path", "only https://HOST:PORT"
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


def _backend(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    for name, value in resolved.site.backend:
        if isinstance(value, str) and (BACKEND_SECRETS.search(name) or PASSWORD_IN_ADDRESS.search(value)):
            # the value is not repeated
            fix = "write env:NAME, file:PATH or sops:PATH#key, or set the variable that this backend reads itself"
            yield ("site", "backend", name), f"{name} is a secret, given literally", fix


RULES = (
    Rule("SEC-R1", "error", "The API is reached by TLS", "The token would travel in the clear.", _https),
    Rule("SEC-R2", "error", "No open door by accident", "The dummy authenticator checks nothing.", _dummy),
    Rule("SEC-R3", "warning", "The image is pinned", "An unchecked image is somebody else's root.", _placeholder),
    Rule(
        "SEC-R4",
        "error",
        "No secret of the state in the clear",
        "Whoever reads the spec could take the state.",
        _backend,
    ),
)
