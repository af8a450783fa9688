"""gpuctl provision, bootstrap, gpu, manage, jupyter: one phase alone."""

from __future__ import annotations

from collections.abc import Callable

import typer

from gpuctl.cli.apply import run
from gpuctl.cli.options import DEFAULT_SPEC, Output, Patience, Remove, Replace, Site, Spec, Yes

# phases that may have to replace or remove nodes, which takes consent by name
ON_NODES = {
    "provision": "Only the VMs: image, GPU mappings, machines that answer SSH.",
    "bootstrap": "Only Kubernetes: prepared hosts, K3s behind the virtual IP, kubeconfig.",
}
IN_CLUSTER = {
    "gpu": "Only the GPUs: GPU Operator, runtime, every card proven by CUDA.",
    "manage": "Only the management: ingress, storage classes, certificates, Rancher.",
    "jupyter": "Only the notebooks: policies, JupyterHub, its way through the ingress.",
}


def add_to(app: typer.Typer) -> None:
    """Register a command for each phase."""
    for name, what in ON_NODES.items():
        app.command(name, help=what)(_on_nodes(name))
    for name, what in IN_CLUSTER.items():
        app.command(name, help=what)(_in_cluster(name))


def _on_nodes(name: str) -> Callable[..., None]:
    def command(
        spec: Spec = DEFAULT_SPEC,
        site: Site = None,
        yes: Yes = False,
        replace: Replace = None,
        remove: Remove = None,
        patience: Patience = 1.0,
        output: Output = "text",
    ) -> None:
        run((name,), spec, site, yes, replace, remove, output, None, patience, checks=False)

    return command


def _in_cluster(name: str) -> Callable[..., None]:
    def command(
        spec: Spec = DEFAULT_SPEC,
        site: Site = None,
        yes: Yes = False,
        patience: Patience = 1.0,
        output: Output = "text",
    ) -> None:
        run((name,), spec, site, yes, None, None, output, None, patience, checks=False)

    return command
