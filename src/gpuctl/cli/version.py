"""gpuctl version: which gpuctl this is."""

from __future__ import annotations

import platform

from gpuctl import __version__
from gpuctl.cli.options import Output, is_json, print_document


def command(output: Output = "text") -> None:
    """Print the version."""
    if is_json(output):
        print_document({"version": __version__, "python": platform.python_version()})
    else:
        print(f"gpuctl {__version__}")
