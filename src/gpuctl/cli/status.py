"""gpuctl status: what is there now, in one look; never fails because something is down."""

from __future__ import annotations

from gpuctl.cli.options import DEFAULT_SPEC, Output, Site, Spec, is_json, print_document


def command(spec: Spec = DEFAULT_SPEC, site: Site = None, output: Output = "text") -> None:
    """Show each node's VM and Kubernetes state, and what the last verify said."""
    from gpuctl import app
    from gpuctl.report import status

    options = app.Options(spec, site, is_json(output), command="gpuctl status")
    with app.session(options, mutates=False) as ctx:
        seen = status.observe(ctx)
    if options.json:
        print_document(status.as_json(seen))
    else:
        print("\n".join(status.lines(seen)))
