"""cert-manager and the issuer ``gpuctl``. Done when the issuer can sign."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from gpuctl.context import Context
from gpuctl.phases import certificates as issued
from gpuctl.phases import releases, workloads
from gpuctl.phases.base import Change
from gpuctl.phases.steps import Step
from gpuctl.render import certificates, jupyterhub, rancher
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.secrets import read_secret
from gpuctl.spec.resolved import PrivateCa

PHASE = "manage"
WEBHOOK_SECONDS, ISSUER_SECONDS, NOTICE_SECONDS = 180.0, 300.0, 5.0
ISSUER = f"{issued.API}/clusterissuers/{certificates.ISSUER}"
PRIVATE_SECRET = f"/api/v1/namespaces/{certificates.NAMESPACE}/secrets/{certificates.PRIVATE_SECRET}"


def plan(ctx: Context) -> list[Step]:
    manager = _release(ctx, certificates.NAME)
    issuers = _release(ctx, certificates.ISSUERS)
    if not certificates.needed(ctx.spec):
        gone = "no certificate is renewed any more; those issued and the CA stay"
        return [replace(step, change=replace(step.change, disruption=gone)) for step in (*issuers, *manager)]
    steps = [_then(step, lambda: _await_webhook(ctx)) for step in manager]
    steps += _private_ca(ctx)
    steps += [_then(step, lambda: _wait(ctx)) for step in issuers]
    if not issuers and (problem := _problem(ctx)):
        change = Change(f"issuer/{certificates.ISSUER}", "update", f"wait until it can sign: {problem}")
        steps.append(Step(change, lambda: _wait(ctx)))
    return steps + _stale(ctx)


def _release(ctx: Context, name: str) -> list[Step]:
    wanted = certificates.release(ctx.spec) if name == certificates.NAME else certificates.issuers(ctx.spec)
    return releases.steps(ctx, PHASE, name, certificates.NAMESPACE, wanted)


def _then(step: Step, more: Callable[[], None]) -> Step:
    def run() -> None:
        step.run()
        more()

    return Step(step.change, run)


def _await_webhook(ctx: Context) -> None:
    """Until cert-manager's webhook, which looks at every object of its kinds, answers the API server."""
    trial = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "ClusterIssuer",
        "metadata": {"name": "gpuctl-trial"},
        "spec": {"selfSigned": {}},
    }
    deadline = ctx.deadline(WEBHOOK_SECONDS, "waiting for cert-manager's webhook")
    said = ""
    for _ in deadline.ticks(1.0):
        try:
            ctx.kubernetes.apply(f"{issued.API}/clusterissuers/gpuctl-trial", trial, dry_run=True)
        except GpuctlError as error:
            said = error.what
        else:
            return
        ctx.say("progress", "cert-manager's webhook does not answer yet", phase=PHASE, target="helm/cert-manager")
    deadline.check(
        where=f"namespace {certificates.NAMESPACE}, Deployment cert-manager-webhook",
        cause=said,
        next=f"kubectl -n {certificates.NAMESPACE} logs deployment/cert-manager-webhook; then run the same again",
    )


def _problem(ctx: Context) -> str:
    """Why the issuer cannot sign, in words; "" when it can."""
    if ctx.spec.certificates.issuer == "self-signed":
        name = certificates.SELF_SIGNED_SECRET
        if words := issued.problem(ctx, certificates.NAMESPACE, name):
            return words
    issuer = ctx.kubernetes.find(ISSUER)
    what = f"ClusterIssuer {certificates.ISSUER}"
    return issued.unready(issuer, what) if issuer else f"there is no {what} yet"


def _wait(ctx: Context) -> None:
    deadline = ctx.deadline(ISSUER_SECONDS, f"waiting for the issuer {certificates.ISSUER}")
    watch = workloads.Watch(ctx, PHASE, certificates.NAMESPACE)
    problem = ""
    for _ in deadline.ticks(1.0):
        problem = _problem(ctx)
        if not problem:
            ctx.say("target", "can sign", phase=PHASE, target=f"issuer/{certificates.ISSUER}")
            return
        ctx.say("progress", problem, phase=PHASE, target=f"issuer/{certificates.ISSUER}")
        watch.look()
    said = [
        *issued.story(ctx, certificates.NAMESPACE, certificates.SELF_SIGNED_SECRET),
        *workloads.events(ctx, "default", certificates.ISSUER),
    ]
    raise GpuctlError(
        f"{deadline.what}: not done within {deadline.seconds:.0f} s",
        where=f"ClusterIssuer {certificates.ISSUER}",
        cause="\n".join([problem, *said]),
        next=f"kubectl describe clusterissuer {certificates.ISSUER}; then run the same command again",
    )


# --- certificates of an earlier issuer


def _stale(ctx: Context) -> list[Step]:
    """cert-manager leaves alone what was signed before the issuer became another one."""
    steps = []
    for namespace, name in ((rancher.NAMESPACE, rancher.TLS_SECRET), (jupyterhub.NAMESPACE, jupyterhub.TLS_SECRET)):
        secret = ctx.kubernetes.find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        owned = ctx.kubernetes.find(f"{issued.API}/namespaces/{namespace}/certificates/{name}") if secret else None
        if secret and owned and not _signed_now(ctx, base64.b64decode(secret["data"].get("tls.crt", ""))):
            change = Change(f"certificate/{name}", "update", "signed anew, since the issuer is another one now")
            steps.append(Step(change, partial(_sign_anew, ctx, namespace, name)))
    return steps


def _signed_now(ctx: Context, certificate: bytes) -> bool:
    """Whether it is of the issuer that the spec wants."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        found = x509.load_pem_x509_certificate(certificate)
        if ctx.spec.certificates.issuer == "letsencrypt":
            return "Let's Encrypt" in found.issuer.rfc4514_string()
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(issued.authority(ctx).encode()))
    except (GpuctlError, ValueError, TypeError, InvalidSignature):
        return False
    return True


def _sign_anew(ctx: Context, namespace: str, name: str) -> None:
    """cert-manager does so when the Secret is gone; until then the ingress has no certificate."""
    ctx.kubernetes.delete(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    seen = ctx.deadline(NOTICE_SECONDS, "waiting for cert-manager to notice")
    seen.until(lambda: bool(issued.problem(ctx, namespace, name)), every=0.2)
    issued.wait(ctx, PHASE, namespace, name)
    ctx.say("target", "signed anew", phase=PHASE, target=f"certificate/{name}")


# --- the operator's own CA


def _private_ca(ctx: Context) -> list[Step]:
    """The Secret with the operator's CA, as its files are now."""
    ca = ctx.spec.certificates.ca
    if ctx.spec.certificates.issuer != "ca" or ca is None:
        return []
    certificate, key = issued.authority(ctx), read_secret(ca.key, ctx.redactor) + "\n"
    _check(ca, certificate, key)
    wanted = {"tls.crt": certificate, "tls.key": key}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in wanted.items()}
    live = ctx.kubernetes.find(PRIVATE_SECRET)
    if live is not None and live.get("data") == data:
        return []

    def run() -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": certificates.PRIVATE_SECRET, "namespace": certificates.NAMESPACE},
            "type": "kubernetes.io/tls",
            "data": data,
        }
        ctx.kubernetes.apply(PRIVATE_SECRET, body)
        ctx.say("target", "written", phase=PHASE, target=f"secret/{certificates.PRIVATE_SECRET}")

    words = f"the CA of {ca.certificate}"
    return [Step(Change(f"secret/{certificates.PRIVATE_SECRET}", "update" if live else "create", words), run)]


def _check(ca: PrivateCa, certificate: str, key: str) -> None:
    """GpuctlError when these files cannot sign: cert-manager would say so later, and less clearly."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    def refused(cause: str) -> GpuctlError:
        return GpuctlError(
            "the private CA cannot sign certificates",
            where=f"{ca.certificate}, key {ca.key}",
            cause=cause,
            next="give the CA's own certificate and its unencrypted key, both in PEM",
            exit_code=Exit.USAGE,
        )

    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise refused("the certificate is not in PEM") from error
    try:
        public = load_pem_private_key(key.encode(), None).public_key()
    except (ValueError, TypeError) as error:
        raise refused("the key is not in PEM, or it is encrypted") from error
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*spki) != found.public_key().public_bytes(*spki):
        raise refused("the key belongs to another certificate")
    try:
        authority = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if not authority:
        raise refused("the certificate is not a CA's (basicConstraints CA:TRUE)")
    if found.not_valid_after_utc < datetime.now(UTC):
        raise refused(f"it expired on {found.not_valid_after_utc:%F}")
