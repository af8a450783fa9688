"""gpuctl render: the generated files, without touching anything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpuctl.cli.options import DEFAULT_SPEC, Out, Output, Site, Spec, is_json, print_document


def command(spec: Spec = DEFAULT_SPEC, site: Site = None, out: Out = Path("rendered"), output: Output = "text") -> None:
    """Write what is generated from the spec into a folder. Pure: same spec, same bytes; no secret is in it."""
    from gpuctl import app
    from gpuctl.render import rendered

    write(rendered(app.load_spec(app.Options(spec, site))), out, output)


def write(files: Mapping[str, str | bytes], folder: Path, output: str) -> None:
    """Write files by name into the folder and say so; shared with gitops render."""
    from gpuctl import app

    for name, text in files.items():
        app.write_report(folder / name, text)
    if is_json(output):
        print_document({"folder": str(folder), "files": sorted(files)})
    else:
        print(f"{len(files)} files in {folder}")
