"""gpuctl render: the generated files, without touching anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Site, Spec


def command(
    spec: Spec = DEFAULT_SPEC,
    site: Site = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path("rendered"),
) -> None:
    """Write what is generated from the spec into a folder. Pure: same spec, same bytes; no secret is in it."""
    from gpuctl import app
    from gpuctl.render import rendered

    resolved = app.load_spec(app.Options(spec, site))
    files = rendered(resolved)
    for name, text in files.items():
        app.write_report(out / name, text)
    print(f"{len(files)} files in {out}")
