"""gpuctl provision, bootstrap, gpu, manage, jupyter: one phase alone."""

from __future__ import annotations

from gpuctl.cli.apply import run
from gpuctl.cli.options import DEFAULT_SPEC, Output, Patience, Remove, Replace, Site, Spec, Yes


def provision(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    replace: Replace = None,
    remove: Remove = None,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Only the VMs: image, GPU mappings, machines that answer SSH."""
    run(("provision",), spec, site, yes, replace, remove, output, None, patience, checks=False)


def bootstrap(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    replace: Replace = None,
    remove: Remove = None,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Only Kubernetes: prepared hosts, K3s behind the virtual IP, kubeconfig."""
    run(("bootstrap",), spec, site, yes, replace, remove, output, None, patience, checks=False)


def gpu(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Only the GPUs: GPU Operator, runtime, every card proven by CUDA."""
    run(("gpu",), spec, site, yes, None, None, output, None, patience, checks=False)


def manage(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Only the management: ingress, storage classes, certificates, Rancher."""
    run(("manage",), spec, site, yes, None, None, output, None, patience, checks=False)


def jupyter(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    yes: Yes = False,
    patience: Patience = 1.0,
    output: Output = "text",
) -> None:
    """Only the notebooks: policies, JupyterHub, its way through the ingress."""
    run(("jupyter",), spec, site, yes, None, None, output, None, patience, checks=False)
