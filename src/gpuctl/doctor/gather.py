"""Gather the facts: this machine, the API and the host at the same time, each bounded; nothing is changed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from gpuctl.doctor.facts import Api, Facts, Machine, Spec, Tool
from gpuctl.doctor.report_of_host import SCRIPT, HostReport, parse
from gpuctl.phases.provision import preflight
from gpuctl.render.terraform import image_file, image_of
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError, or_error
from gpuctl.run.redact import Redactor
from gpuctl.run.secrets import read_secret
from gpuctl.run.workspace import Workspace, data_folder
from gpuctl.spec.findings import count
from gpuctl.spec.load import load
from gpuctl.spec.resolved import Resolved, SecretRef
from gpuctl.systems import ssh
from gpuctl.systems.proxmox import Proxmox, greet, read_token

TOOL_SECONDS, API_SECONDS, HOST_SECONDS = 20.0, 60.0, 40.0
# how each tool is asked for its version, and where it is in the answer
ASKED: dict[str, tuple[str, ...]] = {
    "terraform": ("version",),
    "tofu": ("version",),
    "helm": ("version", "--short"),
    "ssh": ("-V",),
    "git": ("--version",),
    "sops": ("--version", "--disable-version-check"),
    "kubectl": ("version", "--client"),
}
VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?[-+.\w]*)")
# the id of a cluster that was never applied: the mark of nobody
NOBODY = "-"
T = TypeVar("T")


def gather(spec: Path | None, site: Path | None, host: Callable[[], HostReport] | None, redactor: Redactor) -> Facts:
    """All facts. ``spec`` None: only this machine. ``host``: how to get the host's report.

    GpuctlError: the spec's file cannot be read.
    """
    read = _spec(spec, site) if spec else None
    resolved = read.resolved if read else None
    with ThreadPoolExecutor(max_workers=3) as pool:
        api = pool.submit(_api, resolved, Path(spec), redactor) if spec and resolved else None
        report = pool.submit(or_error, host) if host else None
        machine = _machine(spec, resolved, redactor)
        return Facts(
            machine,
            read,
            api.result() if api else None,
            report.result() if report else None,
            f"root@{resolved.endpoint_name}" if resolved else "root@HOST",
        )


def over_ssh(destination: str) -> HostReport:
    """The report of the host, made by one read-only script there. GpuctlError: no way to it, or no report."""
    deadline = Deadline.after(HOST_SECONDS, f"looking at {destination}")
    done = ssh.run_as_operator(destination, SCRIPT.read_text(encoding="utf-8"), deadline)
    return parse(done.stdout, destination)


def from_file(path: Path) -> HostReport:
    """The report that the script wrote when somebody ran it by hand."""
    try:
        return parse(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except OSError as error:
        raise GpuctlError(f"cannot read {path}: {error.strerror}", next="gpuctl doctor --host-script") from error


def _spec(path: Path, site: Path | None) -> Spec:
    loaded = load(path, site)
    errors = count(loaded.findings, "error")
    return Spec(str(path), None if errors else loaded.resolved, errors, count(loaded.findings, "warning"))


# --- this machine


def _machine(spec: Path | None, resolved: Resolved | None, redactor: Redactor) -> Machine:
    folder = spec.resolve().parent if spec else Path.cwd()
    workspace = _workspace(spec, resolved) if spec and resolved else None
    with ThreadPoolExecutor(max_workers=len(ASKED) + 1) as pool:
        agent = pool.submit(_agent)
        found = {"ansible-playbook": _ansible(), **dict(zip(ASKED, pool.map(_tool, ASKED), strict=True))}
        references = sorted(set(map(str, _references(resolved))))
        problems = pool.map(lambda text: _secret(text, redactor), references)
        return Machine(
            f"{platform.python_version()} at {sys.executable}",
            {name: tool for name, tool in found.items() if tool},
            str(folder),
            shutil.disk_usage(folder).free,
            workspace.private_modes() if workspace else {},
            tuple(str(path) for path in _parts() if not path.exists()),
            agent.result(),
            tuple(sorted(f"~/.ssh/{path.stem}" for path in Path("~/.ssh").expanduser().glob("id_*.pub"))),
            dict(zip(references, problems, strict=True)),
        )


def _workspace(spec: Path, resolved: Resolved) -> Workspace:
    return Workspace.of(spec, resolved.name, resolved.endpoint_name)


def _parts() -> Iterable[Path]:
    """What is shipped beside the code."""
    yield data_folder("templates") / "terraform" / "main.tf"
    yield data_folder("templates") / "ansible" / "library"
    yield data_folder("templates") / "charts"


def _ansible() -> Tool | None:
    """Ours: it lies beside the Python that runs us. It is not started, since it would make folders in the home."""
    own = Path(sys.executable).parent / "ansible-playbook"
    try:
        return Tool(str(own), metadata.version("ansible-core")) if own.exists() else None
    except metadata.PackageNotFoundError:
        return None


def _tool(name: str) -> Tool | None:
    path = shutil.which(name)
    if path is None:
        return None
    match = VERSION.search(_said(path, *ASKED[name]))
    return Tool(path, match[1] if match else "")


def _agent() -> int:
    """Keys in the SSH agent."""
    tool = shutil.which("ssh-add")
    if tool is None or not os.environ.get("SSH_AUTH_SOCK"):
        return 0
    return sum(" (" in line for line in _said(tool, "-l").splitlines())


def _said(*command: str) -> str:
    """What a tool prints on either stream; "" when it does not end in time or cannot be started."""
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TOOL_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _references(value: Any) -> Iterable[SecretRef]:
    """Every reference to a secret below the value."""
    if isinstance(value, SecretRef):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _references(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from _references(part)


def _secret(text: str, redactor: Redactor) -> GpuctlError | None:
    kind, _, value = text.partition(":")
    try:
        read_secret(SecretRef(kind, value), redactor)  # type: ignore[arg-type]
    except GpuctlError as error:
        return error
    return None


# --- the API


def _api(spec: Resolved, file: Path, redactor: Redactor) -> Api:
    settings, workspace = spec.site.proxmox, _workspace(file, spec)
    deadline = Deadline.after(API_SECONDS, "looking at the Proxmox API")

    def ask(source: Callable[[], T]) -> T | GpuctlError:
        return GpuctlError("the Proxmox API is too slow to be asked this too") if deadline.expired else or_error(source)

    proxmox = or_error(lambda: Proxmox(settings, read_token(settings.token, redactor)))
    with ThreadPoolExecutor(max_workers=1) as pool:  # a server that is silent is waited for once
        greeted = pool.submit(ask, lambda: greet(settings.endpoint, settings.ca))
        version = proxmox if isinstance(proxmox, GpuctlError) else ask(proxmox.version)
        greeting = greeted.result()

    def get(reader: Callable[[Proxmox], T]) -> T | GpuctlError:
        # without an answer to the simplest question none of the others is asked
        if isinstance(proxmox, GpuctlError) or isinstance(version, GpuctlError):
            return GpuctlError("the API does not let us in")
        return ask(lambda: reader(proxmox))

    image = get(lambda p: _has_image(p, spec))
    source = get(lambda p: p.look_at_url(image_of(spec).url)) if image is False else None
    wants_cards = any(node.gpus for node in spec.nodes)
    no_cards: Mapping[str, int] = {}
    return Api(
        greeting,
        version,
        get(lambda p: p.permissions()),
        get(lambda p: p.nodes()),
        get(lambda p: p.capacity()),
        get(lambda p: p.stores()),
        get(lambda p: p.bridges()),
        get(lambda p: p.cards()) if wants_cards else [],
        get(lambda p: p.iommu_groups()) if wants_cards else no_cards,
        get(lambda p: preflight.look(p, spec)),
        image,
        source,
        workspace.cluster_id if workspace.exists else NOBODY,
    )


def _has_image(proxmox: Proxmox, spec: Resolved) -> bool:
    store, name = spec.site.proxmox.storage.images, image_file(spec)
    return any(volume.volid.rpartition("/")[2] == name for volume in proxmox.volumes(store))
