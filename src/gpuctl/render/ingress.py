"""The ingress controller: F5's by its chart, or K3s' own Traefik by its HelmChartConfig; both on the ingress VIP.

Keys: the official charts. The VIP is an external IP of the controller's Service: kube-proxy on every node brings what
arrives for it to the controller, wherever keepalived holds the address.
"""

from __future__ import annotations

from typing import Any

import yaml

from gpuctl.render.charts import Release, core_tolerations
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.versions import table

NAME = CHART = "nginx-ingress"
NAMESPACE = "nginx-ingress"
SERVICE = "nginx-ingress-controller"
# Traefik is K3s' packaged chart: its object and its Service are named there
TRAEFIK = "traefik"
TRAEFIK_NAMESPACE = "kube-system"
TRAEFIK_CONFIG = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmchartconfigs/traefik"
REPLICAS = 2


def _external(spec: Resolved) -> list[str]:
    return [str(spec.network.ingress_vip)] if spec.network.ingress_vip else []


def release(spec: Resolved) -> Release | None:
    """F5's controller; None when the spec wants another one."""
    if spec.kubernetes.ingress != "nginx":
        return None
    external = _external(spec)
    values: dict[str, Any] = {
        "controller": {
            "ingressClass": {"create": True, "name": "nginx", "setAsDefaultIngress": True},
            "kind": "deployment",
            "replicaCount": min(REPLICAS, len(spec.nodes)),
            # without a load balancer a Service of that type would stay pending
            "service": {"create": True, "externalIPs": external, "type": "ClusterIP"},
            "tolerations": core_tolerations(spec),
        },
    }
    if external:
        # what Ingress objects report as their address
        values["controller"]["config"] = {"entries": {"external-status-address": external[0]}}
    return Release(NAME, NAMESPACE, CHART, str(table()["nginx_ingress"]), table()["charts"][CHART], values)


def traefik(spec: Resolved) -> dict[str, Any] | None:
    """The HelmChartConfig of K3s' Traefik; None when the spec wants another controller, or no address for it."""
    external = _external(spec)
    if spec.kubernetes.ingress != "traefik" or not external:
        return None
    values = {
        "ingressClass": {"enabled": True, "isDefaultClass": True, "name": "traefik"},
        "service": {"externalIPs": external, "type": "ClusterIP"},
        "tolerations": core_tolerations(spec),
    }
    return {
        "apiVersion": "helm.cattle.io/v1",
        "kind": "HelmChartConfig",
        "metadata": {"name": TRAEFIK, "namespace": TRAEFIK_NAMESPACE},
        "spec": {"valuesContent": yaml.safe_dump(values, sort_keys=True, width=120)},
    }
