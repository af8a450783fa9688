"""Generated files, as pure functions of the resolved spec."""

from __future__ import annotations

import json

from gpuctl.spec.resolved import Resolved


def rendered(resolved: Resolved) -> dict[str, str]:
    """Every generated file by name. What only the live site can tell (cards, interfaces) is left at its default."""
    from gpuctl.render import certificates, gpu, hosts, ingress, jupyterhub, policies, rancher, storage, terraform

    variables = terraform.variables(
        resolved, cluster_id="CLUSTER-ID", keys=list(resolved.ssh.authorized_keys), cards={}
    )
    inventory = hosts.inventory(resolved, {}, secrets="SECRETS")
    made = [
        gpu.release(resolved),
        ingress.release(resolved),
        *(release for _, release in storage.releases(resolved).values()),
        certificates.release(resolved),
        certificates.issuers(resolved),
        rancher.release(resolved),
        policies.release(resolved),
        jupyterhub.release(resolved),
    ]
    traefik = ingress.traefik(resolved)
    return {
        "terraform/gpuctl.auto.tfvars.json": json.dumps(variables, indent=2, sort_keys=True) + "\n",
        "ansible/inventory.json": json.dumps(inventory, indent=1, sort_keys=True) + "\n",
        **({"helm/traefik.values.yaml": traefik["spec"]["valuesContent"]} if traefik else {}),
        **{f"helm/{release.name}.values.yaml": release.values_yaml() for release in made if release},
    }
