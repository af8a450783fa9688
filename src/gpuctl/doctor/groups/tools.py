"""The programs that gpuctl starts on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gpuctl.doctor.base import Line, Outcome
from gpuctl.doctor.facts import Facts, Tool
from gpuctl.spec.versions import order
from gpuctl.systems import helm, terraform

# what pyproject.toml asks for
ANSIBLE, ANSIBLE_BELOW = "2.18", "2.20"


@dataclass(frozen=True)
class Need:
    """One of ``programs`` is wanted, ``least`` or later. ``hint``: how to get it. ``optional``: only warned about."""

    name: str
    programs: tuple[str, ...]
    hint: str
    least: str = ""
    below: str = ""
    optional: bool = False


NEEDS = (
    Need(
        "terraform",
        terraform.TOOLS,
        f"install Terraform {terraform.NEEDS} or later, or OpenTofu",
        least=terraform.NEEDS,
    ),
    Need(
        "ansible",
        ("ansible-playbook",),
        "install gpuctl anew with its dependencies (scripts/setup, or pip install into one environment)",
        least=ANSIBLE,
        below=ANSIBLE_BELOW,
    ),
    Need("helm", ("helm",), f"install Helm {helm.NEEDS} or later", least=helm.NEEDS),
    Need("ssh", ("ssh",), "install it (Debian, Ubuntu: apt install openssh-client)"),
    Need("git", ("git",), "install it (Debian, Ubuntu: apt install git)"),
)
KUBECTL = Need(
    "kubectl", ("kubectl",), "gpuctl does without; install it to look at the cluster yourself", optional=True
)
SOPS = Need("sops", ("sops",), "install sops, or refer to secrets by env: or file:")


def judge(facts: Facts) -> Iterator[Line]:
    yield Line("python", "ok", facts.machine.python)
    uses_sops = any(reference.startswith("sops:") for reference in facts.machine.secrets)
    for need in (*NEEDS, *([SOPS] if uses_sops else []), KUBECTL):
        yield _line(need, facts)


def _line(need: Need, facts: Facts) -> Line:
    tool = next((facts.machine.tools[name] for name in need.programs if name in facts.machine.tools), None)
    if tool is None:
        if need.name == "git" and facts.resolved and not facts.resolved.gitops:
            return Line(need.name, "ok", "not on PATH, and not needed: the spec has no management.gitops")
        outcome: Outcome = "warn" if need.optional else "fail"
        return Line(need.name, outcome, f"no {' or '.join(need.programs)} found", need.hint)
    measured = f"{tool.version or 'of unknown version'} at {tool.path}"
    if not need.least or (tool.version and _fits(need, tool)):
        return Line(need.name, "ok", measured)
    if not tool.version:
        return Line(need.name, "warn", measured, f"{need.least} or later is needed")
    return Line(need.name, "fail", measured, need.hint)


def _fits(need: Need, tool: Tool) -> bool:
    """Whether the version is in the span; ``1.10.0-rc1`` counts as 1.10."""
    has = tuple(int(part) for part in re.findall(r"\d+", tool.version)[:2])
    return order(need.least) <= has and (not need.below or has < order(need.below))
