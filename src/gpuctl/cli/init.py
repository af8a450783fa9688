"""gpuctl init: a first cluster.yaml from a few answers, and from what the Proxmox server has."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Output, Site, Spec, is_json, print_document
from gpuctl.run.errors import Exit, GpuctlError

if TYPE_CHECKING:
    from gpuctl.spec.propose import Answers, Proposal, Server
    from gpuctl.systems.proxmox import Proxmox


def _text(option: str, help: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(
        option, help=help, envvar=f"GPUCTL_{option.removeprefix('--').replace('-', '_').upper()}"
    )
    return found


QUESTIONS = {
    "name": "Name of the cluster",
    "endpoint": "Proxmox API (https://HOST:8006)",
    "node": "Proxmox node that carries the VMs",
    "cidr": "LAN of the nodes (10.0.0.0/24)",
    "gateway": "Gateway",
    "api_vip": "Free address for the Kubernetes API",
    "ingress_vip": "Free address for the ingress",
    "first_address": "First of the nodes' addresses, one after the other",
    "workers": "Number of workers",
    "gpus_per_worker": "GPUs per worker",
    "gpu_model": "Model of the GPUs (a100-pcie-40gb, a100-pcie-80gb)",
}


def command(
    file: Spec = DEFAULT_SPEC,
    site: Site = None,
    name: Annotated[str, _text("--name", "Name of the cluster.")] = "",
    endpoint: Annotated[str, _text("--endpoint", "The Proxmox API, https://HOST:8006.")] = "",
    ca: Annotated[str, _text("--ca", "file:PATH of the CA of its certificate, unless a public one signed it.")] = "",
    token_ref: Annotated[
        str, _text("--token-ref", "Where the API token is: env:NAME, file:PATH or sops:PATH#key.")
    ] = "env:PROXMOX_VE_API_TOKEN",
    node: Annotated[str, _text("--node", "Proxmox node that carries the VMs.")] = "",
    cidr: Annotated[str, _text("--cidr", "LAN of the nodes.")] = "",
    gateway: Annotated[str, _text("--gateway", "Its gateway.")] = "",
    api_vip: Annotated[str, _text("--api-vip", "Free address for the Kubernetes API.")] = "",
    ingress_vip: Annotated[str, _text("--ingress-vip", "Free address for the ingress.")] = "",
    first_address: Annotated[
        str, _text("--first-address", "First of the nodes' addresses: control planes, then workers, one after another.")
    ] = "",
    control_planes: Annotated[int | None, _text("--control-planes", "Number of control planes, odd.")] = None,
    workers: Annotated[int | None, _text("--workers", "Number of workers.")] = None,
    gpus_per_worker: Annotated[int | None, _text("--gpus-per-worker", "GPUs of each worker; 0 for none.")] = None,
    gpu_model: Annotated[str, _text("--gpu-model", "Model of the GPUs, e.g. a100-pcie-80gb.")] = "",
    nfs: Annotated[str, _text("--nfs", "SERVER:/PATH of an NFS export for volumes.")] = "",
    rancher_host: Annotated[str, _text("--rancher-host", "Host name of Rancher, when it is wanted.")] = "",
    hub_host: Annotated[str, _text("--hub-host", "Host name of JupyterHub, when it is wanted.")] = "",
    from_proxmox: Annotated[
        bool,
        typer.Option(
            "--from-proxmox",
            help="Fail when the API cannot be asked what the server has (else it is asked if the token is there).",
            envvar="GPUCTL_FROM_PROXMOX",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.", envvar="GPUCTL_FORCE")] = False,
    output: Output = "text",
) -> None:
    """Write a first spec that fits the server; asks on a terminal, else takes options."""
    from gpuctl.spec.propose import Answers, propose

    as_json = is_json(output)
    if file.exists() and not force:
        raise GpuctlError(f"{file} exists", next="another name (gpuctl init FILE), or --force", exit_code=Exit.USAGE)
    answers = Answers(
        name=name,
        endpoint=endpoint,
        ca=ca,
        token_ref=token_ref,
        node=node,
        cidr=cidr,
        gateway=gateway,
        api_vip=api_vip,
        ingress_vip=ingress_vip,
        first_address=first_address,
        control_planes=control_planes,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        gpu_model=gpu_model,
        nfs=nfs,
        rancher_host=rancher_host,
        hub_host=hub_host,
    )
    if site:
        answers = _of_site(answers, site)
    # questions would stand among the JSON
    terminal = sys.stdin.isatty() and not as_json
    if terminal:
        answers = _ask(answers, ("name", "endpoint"))
    answers, server = _look(answers, file.resolve().parent, needed=from_proxmox, terminal=terminal)
    answers = _complete(answers, server, terminal=terminal)
    proposal = propose(answers, server)
    _prove(proposal, file, site)
    _write(proposal, file, force=force)
    count = len(proposal.text.splitlines())
    if as_json:
        print_document({"file": str(file), "lines": count, "notes": list(proposal.notes)})
        return
    for note in proposal.notes:
        print(f"note: {note}", file=sys.stderr)
    arguments = ("" if file == DEFAULT_SPEC else f" {file}") + (f" --site {site}" if site else "")
    print(f"wrote {file} ({count} lines). Next: gpuctl validate{arguments}")


def _of_site(answers: Answers, site: Path) -> Answers:
    """Where the server is, from a site file, unless it was said."""
    from gpuctl.spec.load import load_site
    from gpuctl.spec.resolve_services import Folder

    if answers.endpoint:
        return answers
    proxmox, files = load_site(site).proxmox, Folder(site.resolve().parent)
    return replace(
        answers,
        endpoint=proxmox.endpoint,
        ca=answers.ca or (f"file:{files.file(proxmox.ca)}" if proxmox.ca else ""),
        token_ref=str(files.known_secret(proxmox.token)),
        node=answers.node or proxmox.node,
    )


def _ask(answers: Answers, fields: tuple[str, ...]) -> Answers:
    """Ask for those of the fields that have no answer."""
    for field in fields:
        known = getattr(answers, field)
        if known in ("", None):
            kind = int if field in ("workers", "gpus_per_worker") else str
            answers = replace(answers, **{field: typer.prompt(QUESTIONS[field], type=kind)})
    return answers


def _complete(answers: Answers, server: Server | None, *, terminal: bool) -> Answers:
    """Ask for what is missing; without a terminal name all of it. An answer may make others needed or known."""
    from gpuctl.spec.propose import completed, missing

    answers = completed(answers, server)
    while wanted := missing(answers):
        if not terminal:
            options = " ".join(f"--{field.replace('_', '-')} ..." for field in wanted)
            raise GpuctlError(
                "not everything is known that a spec needs, and there is no terminal to ask on",
                cause="\n".join(f"--{field.replace('_', '-')}: {QUESTIONS[field]}" for field in wanted),
                next=f"add {options}",
                exit_code=Exit.USAGE,
            )
        answers = completed(_ask(answers, wanted[:1]), server)
    return answers


def _look(answers: Answers, folder: Path, *, needed: bool, terminal: bool) -> tuple[Answers, Server | None]:
    """Ask the API what the node has, and which node there is; None when it cannot be asked and need not be."""
    from gpuctl.systems import inventory

    if not answers.endpoint:
        return answers, None  # it will be named as missing
    try:
        if not answers.node:
            answers = replace(answers, node=_one_of(_proxmox(answers, folder).nodes(), terminal=terminal))
        return answers, inventory.of(_proxmox(answers, folder), answers.node)
    except GpuctlError as error:
        if needed:
            raise
        cause = f" ({error.cause.splitlines()[0]})" if error.cause else ""
        print(f"note: proposed without a look at the server: {error.what}{cause}", file=sys.stderr)
        return answers, None


def _one_of(nodes: dict[str, bool], *, terminal: bool) -> str:
    """The node that is online; of several the one that is chosen."""
    online = sorted(name for name, up in nodes.items() if up)
    if len(online) == 1:
        return online[0]
    if terminal:
        return str(typer.prompt(f"{QUESTIONS['node']}: {', '.join(online)}"))
    raise GpuctlError(
        "which node is to carry the VMs?",
        cause=f"it has {', '.join(sorted(nodes)) or 'none that the token may see'}",
        next="add --node NAME",
        exit_code=Exit.USAGE,
    )


def _proxmox(answers: Answers, folder: Path) -> Proxmox:
    from pydantic import TypeAdapter, ValidationError

    from gpuctl.run.redact import Redactor
    from gpuctl.spec.forms import Secret
    from gpuctl.spec.resolve_services import Folder
    from gpuctl.spec.resolved import Proxmox as Settings
    from gpuctl.spec.resolved import StoragePools
    from gpuctl.systems.proxmox import Proxmox, read_token

    files = Folder(folder)
    try:
        token = files.known_secret(TypeAdapter(Secret).validate_python(answers.token_ref))
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise GpuctlError("--token-ref is no reference", cause=message, exit_code=Exit.USAGE) from None
    ca = files.file(answers.ca) if answers.ca else None
    settings = Settings(answers.endpoint, ca, token, answers.node, StoragePools("", "", ""), "", 0, 1)
    return Proxmox(settings, read_token(token, Redactor()))


def _prove(proposal: Proposal, file: Path, site: Path | None) -> None:
    """GpuctlError when ``gpuctl validate`` would find errors in it."""
    from gpuctl.spec.load import load_text

    errors = [f for f in load_text(proposal.text, file, site).findings if f.severity == "error"]
    if errors:
        raise GpuctlError(
            "these answers make no valid spec; nothing was written",
            cause="\n".join(f"{f.at.field}: {f.message}{'; ' + f.fix if f.fix else ''} [{f.rule}]" for f in errors),
            next="correct the answer; gpuctl explain FIELD tells what a field is about",
            exit_code=Exit.USAGE,
        )


def _write(proposal: Proposal, file: Path, *, force: bool) -> None:
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(proposal.text)
    except OSError as error:
        raise GpuctlError(f"cannot write {file}: {error.strerror}", where=str(file), exit_code=Exit.USAGE) from error
