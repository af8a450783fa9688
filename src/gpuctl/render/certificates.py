"""cert-manager and the ClusterIssuer ``gpuctl`` that signs for every Ingress. Keys: the official chart."""

from __future__ import annotations

from typing import Any

from gpuctl.render.charts import Release, core_tolerations
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.versions import newest_for, table

NAME = CHART = "cert-manager"
NAMESPACE = "cert-manager"
ISSUERS = "issuers"
ISSUER = "gpuctl"
# the CA's certificate and key: made by cert-manager, or by gpuctl from the operator's files. Two names, so that
# cert-manager never writes over the operator's
SELF_SIGNED_SECRET, PRIVATE_SECRET, ACCOUNT_SECRET = "gpuctl-ca", "gpuctl-private-ca", "gpuctl-letsencrypt"
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


def on_ingress(spec: Resolved) -> dict[str, str]:
    """What an Ingress says to have its certificate."""
    found = {"cert-manager.io/cluster-issuer": ISSUER}
    if spec.certificates.issuer == "letsencrypt" and spec.kubernetes.ingress == "nginx":
        # F5's controller gives a host to the oldest Ingress, so that the challenge has to be answered by this very one
        # (nginx/kubernetes-ingress#1243), and serves no host of which the certificate is missing
        found |= {
            "acme.cert-manager.io/http01-edit-in-place": "true",
            "cert-manager.io/issue-temporary-certificate": "true",
        }
    return found


def needed(spec: Resolved) -> bool:
    """Whether anything in the spec is reached by https through the ingress."""
    return (spec.rancher is not None or spec.jupyterhub is not None) and spec.kubernetes.ingress != "none"


def release(spec: Resolved) -> Release | None:
    """cert-manager; None when nothing needs a certificate."""
    if not needed(spec):
        return None
    tolerations = core_tolerations(spec)
    values: dict[str, Any] = {
        "cainjector": {"tolerations": tolerations},
        # without keep, removing the release would remove every Certificate
        "crds": {"enabled": True, "keep": True},
        "global": {"leaderElection": {"namespace": NAMESPACE}},
        # gpuctl waits for the webhook itself; the chart's Job would hold up Helm and fail it on a slow pull
        "startupapicheck": {"enabled": False},
        "tolerations": tolerations,
        "webhook": {"tolerations": tolerations},
    }
    version = newest_for("cert_manager_for", spec.kubernetes.version)
    return Release(NAME, NAMESPACE, CHART, version, table()["charts"][CHART], values)


def issuers(spec: Resolved) -> Release | None:
    """The issuer and what it hangs on, by our own chart."""
    if not needed(spec):
        return None
    wanted = spec.certificates
    values: dict[str, Any] = {"issuer": wanted.issuer, "cluster": spec.name}
    if wanted.issuer == "letsencrypt":
        values["acme"] = {
            "server": LETS_ENCRYPT,
            "email": wanted.email,
            "secret": ACCOUNT_SECRET,
            "ingressClassName": spec.kubernetes.ingress,
        }
    else:
        values["secret"] = PRIVATE_SECRET if wanted.issuer == "ca" else SELF_SIGNED_SECRET
    return Release(ISSUERS, NAMESPACE, ISSUERS, "1.0.0", "", values)
