"""gpuctl resolve: the spec with every default explicit."""

from __future__ import annotations

from gpuctl.cli.options import DEFAULT_SPEC, Output, Site, Spec, is_json, print_document


def command(spec: Spec = DEFAULT_SPEC, site: Site = None, output: Output = "text") -> None:
    """Print the spec with every default explicit and every node expanded."""
    from gpuctl.app import Options, load_spec
    from gpuctl.spec.resolve import dump, plain

    resolved = load_spec(Options(spec, site))
    if is_json(output):
        print_document({"spec": plain(resolved)})
    else:
        print(dump(resolved), end="")
