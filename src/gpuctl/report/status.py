"""What is there now: the VM and the Kubernetes node of each node of the spec, and what the last verify said."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from gpuctl.run.errors import GpuctlError

if TYPE_CHECKING:
    from gpuctl.context import Context

ABSENT, UNKNOWN = "absent", "unknown"


@dataclass(frozen=True)
class NodeStatus:
    """``vm``: running, stopped, absent or unknown; ``kubernetes``: Ready, NotReady, absent or unknown."""

    name: str
    address: str
    vm: str
    kubernetes: str


@dataclass(frozen=True)
class Status:
    """``problems``: sources that did not answer, each in one line. ``verified``: of the last verify, "" if none."""

    cluster: str
    endpoint: str
    simulated: tuple[str, ...]
    nodes: tuple[NodeStatus, ...]
    problems: tuple[str, ...]
    verified: str


def observe(ctx: Context) -> Status:
    """Look at Proxmox and Kubernetes; what does not answer is named, not fatal."""
    problems: list[str] = []
    machines: dict[int, str] | None = None
    members: dict[str, str] | None = None
    try:
        machines = {machine.vmid: machine.status for machine in ctx.proxmox.vms()}
    except GpuctlError as error:
        problems.append(f"Proxmox: {error.what}")
    if ctx.workspace.kubeconfig.exists():
        try:
            members = _members(ctx)
        except GpuctlError as error:
            problems.append(f"Kubernetes: {error.what}")
    else:
        members = {}
    nodes = tuple(
        NodeStatus(
            node.name,
            str(node.address),
            UNKNOWN if machines is None else machines.get(node.vm_id, ABSENT),
            UNKNOWN if members is None else members.get(node.name, ABSENT),
        )
        for node in ctx.spec.nodes
    )
    return Status(
        ctx.spec.name, ctx.spec.endpoint_name, ctx.spec.site.simulated, nodes, tuple(problems), _last_verify(ctx)
    )


def _members(ctx: Context) -> dict[str, str]:
    members = {}
    for node in ctx.kubernetes.nodes():
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
        members[str(node["metadata"]["name"])] = "Ready" if ready else "NotReady"
    return members


def _last_verify(ctx: Context) -> str:
    try:
        report = json.loads((ctx.workspace.reports / "verify.json").read_text(encoding="utf-8"))
        counts = report["summary"]
        return f"{report['time']}: " + ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    except (OSError, ValueError, KeyError):
        return ""


def lines(status: Status) -> list[str]:
    """For people."""
    width = max((len(node.name) for node in status.nodes), default=0)
    shown = [f"{status.cluster} at {status.endpoint}"]
    shown += [f"  {n.name:<{width}}  {n.address:<15}  vm {n.vm:<8}  kubernetes {n.kubernetes}" for n in status.nodes]
    shown += [f"  {problem}" for problem in status.problems]
    shown.append(f"  last verify {status.verified}" if status.verified else "  never verified here: gpuctl verify")
    if status.simulated:
        shown.append(f"  simulated here: {', '.join(status.simulated)}")
    return shown


def as_json(status: Status) -> dict[str, object]:
    """For ``-o json``."""
    return asdict(status)
