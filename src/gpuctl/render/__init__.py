"""Generated files, as pure functions of the resolved spec."""

from __future__ import annotations

import json

from gpuctl.spec.resolved import Resolved


def rendered(resolved: Resolved) -> dict[str, str]:
    """Every generated file by name. What only the live site can tell (cards, interfaces) is left at its default."""
    from gpuctl.render import gpu, hosts, jupyterhub, policies, terraform

    variables = terraform.variables(
        resolved, cluster_id="CLUSTER-ID", keys=list(resolved.ssh.authorized_keys), cards={}
    )
    inventory = hosts.inventory(resolved, {}, secrets="SECRETS")
    components = (gpu, policies, jupyterhub)
    releases = [release for component in components if (release := component.release(resolved))]
    return {
        "terraform/gpuctl.auto.tfvars.json": json.dumps(variables, indent=2, sort_keys=True) + "\n",
        "ansible/inventory.json": json.dumps(inventory, indent=1, sort_keys=True) + "\n",
        **{f"helm/{release.name}.values.yaml": release.values_yaml() for release in releases},
    }
