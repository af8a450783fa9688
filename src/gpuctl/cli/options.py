"""Options that several commands share, declared once. Each has an environment variable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from gpuctl.run.errors import GpuctlError

DEFAULT_SPEC = Path("cluster.yaml")

Spec = Annotated[Path, typer.Argument(help="The cluster's spec.", envvar="GPUCTL_SPEC", show_default=True)]
Site = Annotated[
    Path | None,
    typer.Option("--site", help="A site file that replaces the spec's site block whole.", envvar="GPUCTL_SITE"),
]


def _remember(output: str) -> str:
    """Errors are printed when the command is gone already (cli.main), in the form that was asked for."""
    os.environ["GPUCTL_OUTPUT"] = output
    return output


Output = Annotated[
    Literal["text", "json"],
    typer.Option(
        "--output", "-o", help="For people or for scripts (docs/json.md).", envvar="GPUCTL_OUTPUT", callback=_remember
    ),
]
Findings = Annotated[
    Literal["text", "json", "sarif", "github"],
    typer.Option(
        "--output",
        "-o",
        help="For people, scripts, code scanning or GitHub's annotations.",
        envvar="GPUCTL_OUTPUT",
        callback=_remember,
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the files.", envvar="GPUCTL_OUT")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to the plan without being asked.", envvar="GPUCTL_YES")]

Patience = Annotated[
    float,
    typer.Option(
        "--patience",
        metavar="FACTOR",
        min=0.01,
        max=100,
        help="Wait this many times as long as usual for everything; more than 1 on slow machines.",
        envvar="GPUCTL_PATIENCE",
    ),
]


def _nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completion: the nodes of the spec; none while it cannot be read."""
    from gpuctl.spec.load import load

    # an option that still lacks its value leaves the arguments unread
    spec = Path(ctx.args[0]) if ctx.args else ctx.params["spec"]
    try:
        resolved = load(spec, ctx.params["site"]).resolved
    except GpuctlError:
        return []
    return [node.name for node in resolved.nodes if node.name.startswith(incomplete)] if resolved else []


def _checks(incomplete: str) -> list[str]:
    """Completion: ids and groups of checks."""
    from gpuctl.verify.base import GROUPS
    from gpuctl.verify.checks import ALL, STRESS

    known = [*(check.id for check in (*ALL, *STRESS)), *GROUPS]
    return [name for name in known if name.lower().startswith(incomplete.lower())]


Replace = Annotated[
    list[str] | None,
    typer.Option(
        "--replace",
        metavar="NODE",
        help="Consent to replace this node.",
        envvar="GPUCTL_REPLACE",
        autocompletion=_nodes,
    ),
]
Remove = Annotated[
    list[str] | None,
    typer.Option(
        "--remove",
        metavar="NODE",
        help="Consent to remove this node.",
        envvar="GPUCTL_REMOVE",
        autocompletion=_nodes,
    ),
]
Junit = Annotated[
    Path | None, typer.Option("--junit", help="Also write the checks as JUnit XML.", envvar="GPUCTL_JUNIT")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="ID",
        help="Only these checks or groups.",
        envvar="GPUCTL_ONLY",
        autocompletion=_checks,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(
        "--skip",
        metavar="ID",
        help="Not these checks or groups.",
        envvar="GPUCTL_SKIP",
        autocompletion=_checks,
    ),
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="Leave out the checks that start pods (shown as skipped).", envvar="GPUCTL_QUICK"),
]
GpuStress = Annotated[
    bool,
    typer.Option(
        "--gpu-stress",
        help="Also load the free cards: bandwidths, NCCL, DCGM diagnostics (many minutes; needs verify.stress_image).",
        envvar="GPUCTL_GPU_STRESS",
    ),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", help="Measure again until stopped; one line per change.", envvar="GPUCTL_WATCH"),
]
Every = Annotated[
    int, typer.Option("--every", metavar="SECONDS", min=1, help="Pause of --watch.", envvar="GPUCTL_EVERY")
]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="Also write the report, with a drawing, as one HTML file.", envvar="GPUCTL_HTML"),
]


def is_json(output: str) -> bool:
    """Whether ``-o json`` was asked."""
    return output == "json"


def print_document(value: Mapping[str, object]) -> None:
    """One JSON document on stdout, as docs/json.md describes it."""
    print(json.dumps({"schemaVersion": 1, **value}, indent=2))
