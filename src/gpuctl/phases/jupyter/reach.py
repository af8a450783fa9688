"""The way to the hub that users take: certificate, ingress, the hub itself; and its API for gpuctl."""

from __future__ import annotations

from gpuctl.context import Context
from gpuctl.phases import certificates
from gpuctl.phases.jupyter import secret
from gpuctl.render import jupyterhub
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import JupyterHub
from gpuctl.systems.https import Https
from gpuctl.systems.jupyterhub import Hub

READY_SECONDS = 300.0


def client(ctx: Context, hub: JupyterHub) -> Hub:
    """The hub's API through the ingress, verified against the issuer's CA."""
    assert ctx.spec.network.ingress_vip is not None  # a rule of the spec
    https = Https(str(ctx.spec.network.ingress_vip), hub.hostname, certificates.authority(ctx))
    return Hub(https, secret.token(ctx))


def problem(ctx: Context, hub: JupyterHub) -> str:
    """What keeps users from the hub, in words; "" when nothing does."""
    try:
        if words := certificates.problem(ctx, jupyterhub.NAMESPACE, jupyterhub.TLS_SECRET):
            return words
        api = client(ctx, hub)
        if not api.healthy():
            return "the hub does not call itself healthy"
        api.info()
    except GpuctlError as error:
        return f"{error.what}{f' ({error.cause.splitlines()[-1]})' if error.cause else ''}"
    return ""


def wait(ctx: Context, hub: JupyterHub) -> None:
    """Until users reach the hub. GpuctlError says what is in the way."""
    certificates.wait(ctx, "jupyter", jupyterhub.NAMESPACE, jupyterhub.TLS_SECRET)
    deadline = ctx.deadline(READY_SECONDS, f"waiting for https://{hub.hostname}")
    words = ""
    for _ in deadline.ticks(1.0):
        words = problem(ctx, hub)
        if not words:
            ctx.say("target", "answers", phase="jupyter", target=f"hub/{hub.hostname}")
            return
        ctx.say("progress", words, phase="jupyter", target=f"hub/{hub.hostname}")
    raise GpuctlError(
        f"{deadline.what}: not done within {deadline.seconds:.0f} s",
        where=f"https://{hub.hostname} at {ctx.spec.network.ingress_vip}",
        cause=words,
        next=f"kubectl -n {jupyterhub.NAMESPACE} get ingress,certificate,pods; then run the same command again",
    )
