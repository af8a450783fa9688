"""gpuctl doctor: is everything there that an apply needs? Changes nothing, anywhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Output, Site, is_json, print_document

Spec = Annotated[
    Path | None,
    typer.Argument(
        help="The cluster's spec, which says where the server is (default: ./cluster.yaml, if there is one).",
        envvar="GPUCTL_SPEC",
    ),
]
HostSsh = Annotated[
    str | None,
    typer.Option(
        "--host-ssh",
        metavar="USER@HOST",
        help="Also look at the Proxmox host itself, by one read-only script over your own ssh.",
        envvar="GPUCTL_HOST_SSH",
    ),
]
HostReport = Annotated[
    Path | None,
    typer.Option("--host-report", help="What that script printed when run by hand.", envvar="GPUCTL_HOST_REPORT"),
]
HostScript = Annotated[
    bool,
    typer.Option("--host-script", help="Print the script, and do nothing else.", envvar="GPUCTL_HOST_SCRIPT"),
]


def command(
    spec: Spec = None,
    site: Site = None,
    host_ssh: HostSsh = None,
    host_report: HostReport = None,
    host_script: HostScript = False,
    output: Output = "text",
) -> None:
    """Check this machine, the Proxmox API and (if asked) the Proxmox host, before anything is changed."""
    from gpuctl.doctor import gather, report_of_host
    from gpuctl.doctor.run import diagnose
    from gpuctl.report import doctor as report
    from gpuctl.run.redact import Redactor

    if host_script:
        print(report_of_host.SCRIPT.read_text(encoding="utf-8"), end="")
        return
    if host_ssh and host_report:
        raise typer.BadParameter("give one of --host-ssh and --host-report")
    as_json, redactor = is_json(output), Redactor()
    host = partial(gather.over_ssh, host_ssh) if host_ssh else None
    if host_report:
        host = partial(gather.from_file, host_report)
    chosen = spec or (DEFAULT_SPEC if site or DEFAULT_SPEC.exists() else None)
    diagnosis = diagnose(gather.gather(chosen, site, host, redactor))
    if as_json:
        print_document(report.as_json(diagnosis, redactor.clean))
    else:
        print("\n".join(report.lines(diagnosis, redactor.clean)))
    if diagnosis.exit_code:
        raise typer.Exit(int(diagnosis.exit_code))
