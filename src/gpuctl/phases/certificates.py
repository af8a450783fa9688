"""The certificates that cert-manager issues: which CA signs them, whether they are there, and why not."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpuctl.context import Context
from gpuctl.phases import workloads
from gpuctl.render import certificates
from gpuctl.run.errors import GpuctlError

# an http01 challenge takes a minute or two
ISSUE_SECONDS = 300.0
API = "/apis/cert-manager.io/v1"
ACME = "/apis/acme.cert-manager.io/v1"
CA_SECRET = f"/api/v1/namespaces/{certificates.NAMESPACE}/secrets/{certificates.SELF_SIGNED_SECRET}"


def authority(ctx: Context) -> str:
    """The CA that signs the cluster's certificates (PEM); "" for one that every machine trusts.

    GpuctlError while there is none yet.
    """
    wanted = ctx.spec.certificates
    if wanted.issuer == "letsencrypt":
        return ""
    if wanted.ca:
        try:
            return Path(wanted.ca.certificate).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise GpuctlError("the CA's certificate cannot be read", where=wanted.ca.certificate) from error
    secret = ctx.kubernetes.find(CA_SECRET)
    if secret is None or "tls.crt" not in (secret.get("data") or {}):
        raise GpuctlError(
            "the cluster's CA is not made yet",
            where=f"secret {certificates.NAMESPACE}/{certificates.SELF_SIGNED_SECRET}",
            next="gpuctl manage",
        )
    return base64.b64decode(secret["data"]["tls.crt"]).decode()


def problem(ctx: Context, namespace: str, name: str) -> str:
    """Why this Certificate is not issued, in words; "" when it is."""
    found = ctx.kubernetes.find(f"{API}/namespaces/{namespace}/certificates/{name}")
    if found is None:
        return f"there is no Certificate {name} yet"
    return unready(found, f"Certificate {name}")


def unready(item: Mapping[str, Any], what: str) -> str:
    """Why the object does not call itself Ready, in words; "" when it does."""
    for condition in (item.get("status") or {}).get("conditions", ()):
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return ""
            return f"{what}: {condition.get('reason', '')}: {condition.get('message', '')}"
    return f"{what} has no status yet"


def story(ctx: Context, namespace: str, name: str) -> list[str]:
    """What the Certificate, and whatever was made on its behalf, says of itself: states and last events."""
    said: list[str] = []
    for kind, item in _family(ctx, namespace, name):
        own = str(item["metadata"]["name"])
        state = (item.get("status") or {}).get("state")
        words = (
            f"{kind} {own} is {state}: {item['status'].get('reason', '')}" if state else unready(item, f"{kind} {own}")
        )
        said += [words] if words else []
        said += [f"{kind} {own}: {line}" for line in workloads.events(ctx, namespace, own)[-1:]]
    return said


def _family(ctx: Context, namespace: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The Certificate, then what it owns: its request, and the order and challenges of ACME."""
    found = ctx.kubernetes.find(f"{API}/namespaces/{namespace}/certificates/{name}")
    if found is None:
        return
    yield "Certificate", found
    owners = {str(found["metadata"]["uid"])}
    for kind, path in (
        ("CertificateRequest", f"{API}/namespaces/{namespace}/certificaterequests"),
        ("Order", f"{ACME}/namespaces/{namespace}/orders"),
        ("Challenge", f"{ACME}/namespaces/{namespace}/challenges"),
    ):
        for item in (ctx.kubernetes.find(path) or {}).get("items", ()):
            if owners & {str(owner["uid"]) for owner in item["metadata"].get("ownerReferences", ())}:
                owners.add(str(item["metadata"]["uid"]))
                yield kind, item


def wait(ctx: Context, phase: str, namespace: str, name: str) -> None:
    """Until the Certificate is issued. GpuctlError names it, with the reason and the last events."""
    deadline = ctx.deadline(ISSUE_SECONDS, f"waiting for the certificate {name}")
    words = ""
    for _ in deadline.ticks(1.0):
        words = problem(ctx, namespace, name)
        if not words:
            return
        ctx.say("progress", words, phase=phase, target=f"certificate/{name}")
    raise GpuctlError(
        f"the certificate {name} was not issued within {deadline.seconds:.0f} s",
        where=f"Certificate {namespace}/{name}",
        cause="\n".join(dict.fromkeys([words, *story(ctx, namespace, name)])),
        next=f"kubectl -n {namespace} describe certificate,certificaterequest,order,challenge; then run the same again",
    )
