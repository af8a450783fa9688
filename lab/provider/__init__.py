"""A stand-in for Terraform's provider bpg/proxmox: the attributes that gpuctl's templates use, anything else refused.

``schema.json`` holds their types and defaults as the real provider (0.111.1) declares them.
"""

from __future__ import annotations

from pathlib import Path

from lab.paths import SOURCE

VERSION = "0.111.1"


def install(mirror: Path, python: str) -> None:
    """Lay out a Terraform filesystem mirror whose provider is this package, run by the given Python."""
    folder = mirror / "registry.terraform.io/bpg/proxmox" / VERSION / "linux_amd64"
    folder.mkdir(parents=True)
    program = folder / f"terraform-provider-proxmox_v{VERSION}"
    # the framework keeps a certificate below HOME, so each lab gets a home of its own
    program.write_text(
        f'#!/bin/sh\nHOME={mirror} PYTHONPATH={SOURCE.parent} exec {python} -m lab.provider "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
