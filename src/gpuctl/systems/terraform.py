"""Terraform (or OpenTofu) in the workspace: its JSON stream read live, its plans read back, its errors said once.

Runs that change nothing hold no lock, so each run has its plans and variables in a folder of its own.

python-terraform makes the argument lists; it cannot stream, and its apply and destroy speak to Terraform < 0.15.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from subprocess import Popen, TimeoutExpired
from threading import Thread
from typing import TYPE_CHECKING, Any

from python_terraform import IsFlagged
from python_terraform import Terraform as Arguments

from gpuctl.run import children
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.secrets import read_secret
from gpuctl.run.workspace import Workspace, data_folder, write_private
from gpuctl.spec.resolved import SecretRef, Site
from gpuctl.systems.proxmox import token_of

if TYPE_CHECKING:
    from gpuctl.context import Context

TOOLS, NEEDS = ("terraform", "tofu"), "1.6"
# what was applied last, for the plain tool in the same folder; a run's own are given by -var-file and go before it
VARIABLES = "gpuctl.auto.tfvars.json"
VM_TYPE, IMAGE_TYPE = "proxmox_virtual_environment_vm", "proxmox_download_file"
PLAN_SECONDS, APPLY_SECONDS = 600.0, 7200.0
# after the one interrupt Terraform finishes what it is creating, which may be a VM with a large image
GRACE_SECONDS = 1800.0
# for the rest of the output of a Terraform that has ended
DRAIN_SECONDS, LOOK_EVERY = 5.0, 0.2


@dataclass(frozen=True)
class ResourceChange:
    """One resource of a plan. ``actions`` as Terraform's: ("create",), ("delete", "create"); values by attribute."""

    address: str
    type: str
    key: str
    actions: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    replace_paths: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Resource:
    """A resource of the state."""

    address: str
    type: str
    key: str
    tainted: bool
    values: Mapping[str, Any]


class Terraform:
    """Works in the workspace's folder. Start with ``prepare``."""

    def __init__(self, site: Site, workspace: Workspace, token: str, ctx: Context) -> None:
        self._site = site
        self._workspace = workspace
        self._token = token
        self._ctx = ctx
        self._own: Path | None = None

    @classmethod
    def of(cls, ctx: Context) -> Terraform:
        return cls(ctx.spec.site, ctx.workspace, token_of(ctx), ctx)

    @property
    def folder(self) -> Path:
        return self._workspace.terraform

    @property
    def has_state(self) -> bool:
        """Whether an earlier run can have left a state: a local file, or a remote backend that only it can tell."""
        return bool(self._site.backend) or (self.folder / "terraform.tfstate").exists()

    def prepare(self, variables: Mapping[str, Any]) -> None:
        """Lay out the static configuration, the variables and the CLI configuration, and initialise."""
        for file in sorted((data_folder("templates") / "terraform").glob("*.tf")):
            write_private(self.folder / file.name, file.read_text(encoding="utf-8"))
        own = self._own_folder()
        write_private(own / VARIABLES, json.dumps(variables, indent=2, sort_keys=True) + "\n")
        write_private(self.folder / "cli.tfrc", self._cli_configuration())
        self._run("init", input=False, no_color=IsFlagged, seconds=PLAN_SECONDS, **self._backend(own))
        self._own = own

    def _backend(self, own: Path) -> dict[str, Any]:
        """Write where the state is kept; the options of ``init``, which gets the secrets from a file of this run."""
        settings = dict(self._site.backend)
        secrets = {name: ref for name, ref in settings.items() if isinstance(ref, SecretRef)}
        backend = str(settings.pop("type", "local"))
        plain = {} if backend == "local" else {n: value for n, value in settings.items() if n not in secrets}
        body = {"terraform": {"backend": {backend: plain}}}
        write_private(self.folder / "backend.tf.json", json.dumps(body, indent=2) + "\n")
        if not secrets:
            return {}
        file = own / "backend.tfbackend.json"
        read = {name: read_secret(ref, self._ctx.redactor) for name, ref in secrets.items()}
        # as JSON they are taken literally: ${ is just text
        write_private(file, json.dumps(read) + "\n")
        return {"backend_config": str(file)}

    def _own_folder(self) -> Path:
        """This run's, removed at its end."""
        if self._own is not None:
            return self._own
        own = children.own_folder(self.folder)
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return own

    def _cli_configuration(self) -> str:
        mirror = self._site.mirrors.terraform_provider
        lines = ["disable_checkpoint = true"]
        if mirror:
            # direct stays for everything else, which this configuration does not need
            lines += [
                "provider_installation {",
                f"  filesystem_mirror {{\n    path    = {json.dumps(mirror)}",
                '    include = ["registry.terraform.io/bpg/proxmox"]\n  }',
                '  direct {\n    exclude = ["registry.terraform.io/bpg/proxmox"]\n  }',
                "}",
            ]
        return "\n".join(lines) + "\n"

    def plan(self, *, replace: Sequence[str] = (), destroy: bool = False) -> tuple[Path, list[ResourceChange]]:
        """The saved plan and what it would change; changes nothing but the refreshed state kept in the plan."""
        own = self._must_be_ready()
        saved = own / ("destroy.tfplan" if destroy else "apply.tfplan")
        options: dict[str, Any] = {
            "out": str(saved),
            "var_file": str(own / VARIABLES),
            "input": False,
            "lock_timeout": "10s",
        }
        if replace:
            options["replace"] = list(replace)
        if destroy:
            options["destroy"] = IsFlagged
        self._run("plan", json=IsFlagged, parallelism=10, seconds=PLAN_SECONDS, **options)
        saved.chmod(0o600)
        shown = json.loads("".join(self._run("show", str(saved), json=IsFlagged, seconds=PLAN_SECONDS)))
        changes = [_change(entry) for entry in shown.get("resource_changes", ()) if entry["mode"] == "managed"]
        return saved, [change for change in changes if change.actions not in (("no-op",), ("read",))]

    def apply(self, saved: Path, *, parallelism: int, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        """Apply exactly the saved plan. ``on_event`` gets Terraform's JSON events as they come."""
        # for whoever uses the plain tool here afterwards
        own = self._must_be_ready()
        write_private(self.folder / VARIABLES, (own / VARIABLES).read_text(encoding="utf-8"))
        self._run(
            "apply",
            str(saved),
            json=IsFlagged,
            input=False,
            parallelism=parallelism,
            lock_timeout="10s",
            seconds=APPLY_SECONDS,
            on_event=on_event,
        )

    def state(self) -> list[Resource]:
        """What the state knows; nothing without a state."""
        self._must_be_ready()
        shown = json.loads("".join(self._run("show", json=IsFlagged, seconds=PLAN_SECONDS)) or "{}")
        found = ((shown.get("values") or {}).get("root_module") or {}).get("resources", ())
        return [
            Resource(
                r["address"], r["type"], str(r.get("index", "")), bool(r.get("tainted")), dict(r.get("values") or {})
            )
            for r in found
            if r["mode"] == "managed"
        ]

    def adopt(self, address: str, identity: str) -> None:
        """Import an existing object into the state."""
        variables = str(self._must_be_ready() / VARIABLES)
        self._run(
            "import", address, identity, var_file=variables, input=False, no_color=IsFlagged, seconds=PLAN_SECONDS
        )

    def _must_be_ready(self) -> Path:
        if self._own is None:
            raise RuntimeError("prepare() comes first")
        return self._own

    # --- running the tool

    def _environment(self) -> dict[str, str]:
        extra = {
            "PROXMOX_VE_API_TOKEN": self._token,
            "TF_CLI_CONFIG_FILE": str(self.folder / "cli.tfrc"),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }
        if self._site.proxmox.ca:
            extra["SSL_CERT_FILE"] = self._site.proxmox.ca
        kept = children.child_environment(extra)
        # the provider reads these too; the spec alone decides
        for name in ("PROXMOX_VE_ENDPOINT", "PROXMOX_VE_USERNAME", "PROXMOX_VE_PASSWORD", "PROXMOX_VE_INSECURE"):
            kept.pop(name, None)
        return {name: value for name, value in kept.items() if not name.startswith("TF_VAR_")}

    def _run(
        self,
        command: str,
        *words: str,
        seconds: float,
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
        **options: Any,
    ) -> list[str]:
        """Run to the end; its standard output's lines. Interrupted once when we are; never killed."""
        arguments = Arguments(terraform_bin_path=_tool()).generate_cmd_string(command, *words, **options)
        deadline = self._ctx.deadline(seconds, f"terraform {command}")
        diagnostics: list[Mapping[str, Any]] = []
        kept: list[str] = []
        streams = "json" in options and command in ("plan", "apply")
        process = children.popen(arguments, cwd=self.folder, environment=self._environment())
        with children.recorded(self._workspace, process.pid, f"terraform {command}") as interrupt:
            for line in _lines(process, deadline, interrupt):
                event = _event(line) if streams else None
                if event is None:
                    kept.append(line)
                    # what `show` prints may hold values that are nobody's business in a log
                    if command != "show":
                        self._ctx.say("log", line.rstrip(), target="terraform")
                    continue
                self._ctx.say("log", str(event.get("@message", "")), target="terraform")
                if event.get("type") == "diagnostic" and event["diagnostic"]["severity"] == "error":
                    diagnostics.append(event["diagnostic"])
                if on_event is not None:
                    on_event(event)
            code = process.wait()
        if code != 0:
            raise self._failure(command, code, diagnostics, kept, deadline)
        return kept

    def _failure(
        self,
        command: str,
        code: int,
        diagnostics: Sequence[Mapping[str, Any]],
        lines: Sequence[str],
        deadline: Deadline,
    ) -> GpuctlError:
        text = "".join(lines).strip()
        if deadline.expired:
            return GpuctlError(
                f"terraform {command} was not done within {deadline.seconds:.0f} s and was stopped",
                where=str(self.folder),
                next="look at the tasks on the Proxmox server, then run the same command again",
            )
        for said in (*diagnostics, {"summary": text, "detail": text}):
            if "Error acquiring the state lock" in said["summary"]:
                return GpuctlError(
                    "the Terraform state is locked by somebody else",
                    where=str(self.folder),
                    cause=_lock_holder(str(said.get("detail", ""))),
                    next="wait for it to end; a lock that nobody holds any more: terraform force-unlock ID",
                    exit_code=Exit.LOCKED,
                )
        if not diagnostics:
            return GpuctlError(
                f"terraform {command} failed (exit {code})",
                where=str(self.folder),
                cause="\n".join(text.splitlines()[-8:]),
                next="the run's log has all of it",
            )
        # one cause is often reported once per resource
        first = diagnostics[0]
        more = f" (and {len(diagnostics) - 1} more in the log)" if len(diagnostics) > 1 else ""
        place = str(first.get("address") or (first.get("range") or {}).get("filename") or self.folder)
        detail = str(first.get("detail") or "").strip()
        return GpuctlError(
            f"terraform {command}: {first['summary']}{more}",
            where=target_of(place),
            cause=detail,
            next=_advice(f"{first['summary']} {detail}"),
        )


def _advice(text: str) -> str:
    low = text.lower()
    if "401" in low or "authentication" in low:
        return "check that the token in site.proxmox.token is valid, then run the same command again"
    if "403" in low or "permission" in low:
        return "grant the privilege (docs/getting-started.md), then run the same command again"
    if "space" in low:
        return "free space on that storage or choose another one in site.proxmox.storage; then run the same command"
    if "checksum" in low:
        return "correct image.checksum (or the mirror's file), then run the same command again"
    if "in use" in low:
        return "stop the VM that holds the card, or name other cards in the spec; then run the same command again"
    return "look at the task on the Proxmox server; then run the same command again"


def target_of(address: str) -> str:
    """``vm/cp1`` for a Terraform address."""
    for prefix, kind in (
        ("proxmox_virtual_environment_vm.node", "vm"),
        ("proxmox_hardware_mapping_pci.gpu", "mapping"),
        ("proxmox_download_file.image", "image"),
    ):
        if address.startswith(prefix):
            key = address.partition('["')[2].removesuffix('"]')
            return f"{kind}/{key}" if key else kind
    return address


def _change(entry: Mapping[str, Any]) -> ResourceChange:
    change = entry["change"]
    return ResourceChange(
        entry["address"],
        entry["type"],
        str(entry.get("index", "")),
        tuple(change["actions"]),
        change.get("before") or {},
        change.get("after") or {},
        tuple(".".join(map(str, path)) for path in change.get("replace_paths") or ()),
        str(entry.get("action_reason", "")),
    )


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "type" in event else None


def _lines(process: Popen[str], deadline: Deadline, interrupt: Callable[[], None]) -> Iterator[str]:
    """What it prints until it has ended. One SIGINT when we are interrupted or late: a second one would orphan VMs.

    GpuctlError when it still runs GRACE_SECONDS after that; it is left alone, recorded for the next run.
    """
    lines: SimpleQueue[str | None] = SimpleQueue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    Thread(target=read, daemon=True).start()
    silent, grace = False, None
    while not (silent and process.poll() is not None):
        ended = process.poll() is not None
        try:
            line = lines.get(timeout=DRAIN_SECONDS if ended else LOOK_EVERY)
        except Empty:
            if ended:
                return  # a provider that outlives it holds its output open
        else:
            if line is not None:
                yield line
            else:
                silent = True
                with suppress(TimeoutExpired):
                    process.wait(LOOK_EVERY)
        if grace is None and (deadline.expired or deadline.stop.is_set()) and process.poll() is None:
            interrupt()
            grace = Deadline.after(GRACE_SECONDS, "terraform's end")
        elif grace is not None and grace.expired and process.poll() is None:
            raise GpuctlError(
                f"terraform (pid {process.pid}) does not stop",
                cause=f"it was interrupted {GRACE_SECONDS:.0f} s ago: {deadline.what}",
                next="look at the tasks on the Proxmox server; the next run waits for it to end",
            )


def _lock_holder(detail: str) -> str:
    wanted = ("ID:", "Who:", "Created:", "Operation:")
    found = [" ".join(line.split()) for line in detail.splitlines() if line.strip().startswith(wanted)]
    return "; ".join(found) or detail.strip()


def _tool() -> str:
    for name in TOOLS:
        if found := shutil.which(name):
            return found
    raise GpuctlError(
        f"neither {' nor '.join(TOOLS)} is on PATH",
        where=os.environ.get("PATH", ""),
        next=f"install Terraform {NEEDS} or later, or OpenTofu",
    )
