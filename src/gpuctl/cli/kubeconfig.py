"""gpuctl kubeconfig: how to reach the cluster with kubectl."""

from __future__ import annotations

from typing import Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Output, Site, Spec, is_json, print_document
from gpuctl.run.errors import GpuctlError


def command(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Merge it into your own kubeconfig, as a context named after the cluster.",
            envvar="GPUCTL_MERGE",
        ),
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print the kubeconfig itself.", envvar="GPUCTL_RAW")] = False,
    output: Output = "text",
) -> None:
    """Print the path of the cluster's kubeconfig, or merge it into yours."""
    from gpuctl import app
    from gpuctl.run.workspace import Workspace
    from gpuctl.systems import kubeconfig

    options = app.Options(spec, site)
    resolved = app.load_spec(options)
    workspace = Workspace.of(spec, resolved.name, resolved.endpoint_name)
    if not workspace.kubeconfig.exists():
        raise GpuctlError(
            f"{resolved.name} has no kubeconfig yet",
            where=str(workspace.kubeconfig),
            cause="bootstrap has not run in this workspace",
            next=f"gpuctl apply{options.rest}",
        )
    text = workspace.kubeconfig.read_text(encoding="utf-8") if raw else ""
    merged = str(kubeconfig.merge(workspace, resolved)) if merge and not raw else ""
    if is_json(output):
        found = {"cluster": resolved.name, "path": str(workspace.kubeconfig), "mergedInto": merged, "kubeconfig": text}
        print_document(found)
    elif raw:
        print(text, end="")
    elif merge:
        print(f"merged into {merged}; kubectl --context {resolved.name} get nodes")
    else:
        print(workspace.kubeconfig)
