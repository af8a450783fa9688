"""gpuctl resolve: the spec with every default explicit."""

from __future__ import annotations

from gpuctl.cli.options import DEFAULT_SPEC, Site, Spec


def command(spec: Spec = DEFAULT_SPEC, site: Site = None) -> None:
    """Print the spec with every default explicit and every node expanded."""
    from gpuctl.app import Options, load_spec
    from gpuctl.spec.resolve import dump

    print(dump(load_spec(Options(spec, site))), end="")
