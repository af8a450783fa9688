"""The way to the hub that users take: certificate, ingress, the hub itself; and its API for gpuctl."""

from __future__ import annotations

import base64
from pathlib import Path

from gpuctl.context import Context
from gpuctl.phases.jupyter import secret
from gpuctl.render import jupyterhub
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import JupyterHub
from gpuctl.systems.https import Https
from gpuctl.systems.jupyterhub import Hub

READY_SECONDS = 300.0
CERTIFICATE = f"/apis/cert-manager.io/v1/namespaces/{jupyterhub.NAMESPACE}/certificates/{jupyterhub.TLS_SECRET}"


def client(ctx: Context, hub: JupyterHub) -> Hub:
    """The hub's API through the ingress, verified against the issuer's CA."""
    assert ctx.spec.network.ingress_vip is not None  # a rule of the spec
    https = Https(str(ctx.spec.network.ingress_vip), hub.hostname, _authority(ctx))
    return Hub(https, secret.token(ctx))


def _authority(ctx: Context) -> str:
    """The CA that signs the cluster's certificates (PEM); "" for one that every machine trusts."""
    certificates = ctx.spec.certificates
    if certificates.issuer == "letsencrypt":
        return ""
    if certificates.ca:
        return Path(certificates.ca.certificate).read_text(encoding="utf-8")
    data = ctx.kubernetes.get("/api/v1/namespaces/cert-manager/secrets/gpuctl-ca")["data"]
    return base64.b64decode(data["tls.crt"]).decode()


def problem(ctx: Context, hub: JupyterHub) -> str:
    """What keeps users from the hub, in words; "" when nothing does."""
    try:
        if words := certificate(ctx):
            return words
        api = client(ctx, hub)
        if not api.healthy():
            return "the hub does not call itself healthy"
        api.info()
    except GpuctlError as error:
        return f"{error.what}{f' ({error.cause.splitlines()[-1]})' if error.cause else ''}"
    return ""


def certificate(ctx: Context) -> str:
    """Why the hub's certificate is not ready, in words; "" when it is."""
    try:
        status = ctx.kubernetes.get(CERTIFICATE).get("status") or {}
    except GpuctlError as error:
        if getattr(error, "status", 0) == 404:
            return f"there is no Certificate {jupyterhub.TLS_SECRET} yet"
        raise
    for condition in status.get("conditions", ()):
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return ""
            return f"the certificate is not issued: {condition.get('message', condition.get('reason', ''))}"
    return "the certificate is not issued yet"


def wait(ctx: Context, hub: JupyterHub) -> None:
    """Until users reach the hub. GpuctlError says what is in the way."""
    deadline = ctx.deadline(READY_SECONDS, f"waiting for https://{hub.hostname}")
    words = ""
    for _ in deadline.ticks(1.0):
        words = problem(ctx, hub)
        if not words:
            ctx.say("target", "answers", phase="jupyter", target=f"hub/{hub.hostname}")
            return
        ctx.say("progress", words, phase="jupyter", target=f"hub/{hub.hostname}")
    if ctx.stop.is_set():
        raise GpuctlError(f"{deadline.what}: interrupted")
    raise GpuctlError(
        f"{deadline.what}: not done within {deadline.seconds:.0f} s",
        where=f"https://{hub.hostname} at {ctx.spec.network.ingress_vip}",
        cause=words,
        next=f"kubectl -n {jupyterhub.NAMESPACE} get ingress,certificate,pods; then run the same command again",
    )
