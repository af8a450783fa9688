"""Rancher's values. Keys and annotations: the official chart, F5's documentation of its annotations."""

from __future__ import annotations

from typing import Any

from gpuctl.render import certificates
from gpuctl.render.charts import Release
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.versions import table

NAME = CHART = "rancher"
NAMESPACE = "cattle-system"
BOOTSTRAP_SECRET, BOOTSTRAP_KEY = "bootstrap-secret", "bootstrapPassword"
CA_SECRET, CA_KEY = "tls-ca", "cacerts.pem"
TLS_SECRET = "tls-rancher-ingress"
# the chart's own annotations are those of the archived ingress-nginx, which F5's controller does not read: it would cut
# websockets (kubectl shells, live lists) after 60 s and bodies at 1 MB
NGINX = {
    "nginx.org/client-max-body-size": "0",
    "nginx.org/proxy-connect-timeout": "30s",
    "nginx.org/proxy-read-timeout": "1800s",
    "nginx.org/proxy-send-timeout": "1800s",
    "nginx.org/websocket-services": "rancher",
}


def private_ca(spec: Resolved) -> bool:
    """Whether Rancher must be told the CA, since no machine trusts it by itself."""
    return spec.certificates.issuer != "letsencrypt"


def release(spec: Resolved) -> Release | None:
    """Rancher; None when the spec has none. Its passwords are in Secrets, never here."""
    if spec.rancher is None:
        return None
    values: dict[str, Any] = {
        "hostname": spec.rancher.hostname,
        "ingress": {
            "extraAnnotations": {
                **certificates.on_ingress(spec),
                **(NGINX if spec.kubernetes.ingress == "nginx" else {}),
            },
            "ingressClassName": spec.kubernetes.ingress,
            "tls": {"secretName": TLS_SECRET, "source": "secret"},
        },
        "privateCA": private_ca(spec),
        "replicas": spec.rancher.replicas,
    }
    return Release(NAME, NAMESPACE, CHART, spec.rancher.version, table()["charts"][CHART], values)
