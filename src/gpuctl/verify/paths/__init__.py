"""What gets through from pods: names, packets of all sizes between every pair of nodes, and TCP once around.

Measured by the hosts' own Python inside the probe pods' networks: no tool in an image limits what is found.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from gpuctl.context import Context
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node
from gpuctl.systems.ssh import Completed
from gpuctl.verify.facts import Interface, Path

LOOK_SECONDS, PUSH_SECONDS, TRANSFER_SECONDS = 180.0, 0.5, 60.0
# the listeners end by themselves, whatever becomes of us
LISTEN_SECONDS, STOP_SECONDS = 600, 15.0


@dataclass(frozen=True)
class _Listener:
    """A node's listeners and its probe pod."""

    node: Node
    uid: str
    address: str
    said: Mapping[str, Any]

    def at(self, where: str, kind: str) -> str:
        """``pod`` or ``host``, ``tcp`` or ``udp``: the address to reach it."""
        return f"{self.address if where == 'pod' else self.node.address}:{self.said[where][kind]}"


def observe(ctx: Context, namespace: str, running: Mapping[str, str | GpuctlError]) -> dict[str, Path | GpuctlError]:
    """By node. ``running``: the probe pod of each node."""
    found: dict[str, Path | GpuctlError] = {name: pod for name, pod in running.items() if isinstance(pod, GpuctlError)}
    listed = ctx.kubernetes.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector="app=gpuctl-probe")
    pods = {str(pod["spec"].get("nodeName")): pod for pod in listed}
    nodes = [node for node in ctx.spec.nodes if isinstance(running.get(node.name), str)]
    listeners: list[_Listener] = []
    try:
        deadline = ctx.deadline(TRANSFER_SECONDS, "listening on the hosts")
        served = ctx.ssh.run_all(
            nodes,
            lambda n: _script("serve", pods[n.name]["metadata"]["uid"], str(n.address), str(LISTEN_SECONDS)),
            deadline=deadline,
        )
        for node in nodes:
            said = _parsed(node, served[node.name])
            pod = pods[node.name]
            if isinstance(said, GpuctlError):
                found[node.name] = said
            else:
                listeners.append(_Listener(node, pod["metadata"]["uid"], pod["status"]["podIP"], said))
        found.update(_measured(ctx, listeners))
    finally:
        _stop(ctx, listeners)
    return found


def _measured(ctx: Context, listeners: list[_Listener]) -> dict[str, Path | GpuctlError]:
    by_name = {listener.node.name: listener for listener in listeners}
    service = f"kubernetes.default.svc.{ctx.spec.kubernetes.cluster_domain}"

    def look(node: Node) -> str:
        peers = [f"{name}={other.at('pod', 'udp')}" for name, other in by_name.items() if name != node.name]
        return _script("look", by_name[node.name].uid, service, *peers)

    deadline = ctx.deadline(LOOK_SECONDS, "trying names and packets from the pods")
    seen = ctx.ssh.run_all([listener.node for listener in listeners], look, deadline=deadline)
    found: dict[str, Path | GpuctlError] = {}
    for number, listener in enumerate(listeners):
        node = listener.node
        # one transfer at a time: they share the bridge
        peer = listeners[(number + 1) % len(listeners)]
        ctx.say("progress", f"measuring bandwidth from {node.name}", phase="verify", done=number, total=len(listeners))
        pods, hosts = _pushed(ctx, listener, peer) if peer is not listener else ({}, {})
        said = _parsed(node, seen[node.name])
        if isinstance(said, GpuctlError):
            found[node.name] = said
        else:
            interface = Interface(**listener.said["interface"])
            found[node.name] = Path(int(listener.said["pod"]["mtu"]), interface, **said, pods=pods, hosts=hosts)
    return found


def _pushed(
    ctx: Context, listener: _Listener, peer: _Listener
) -> tuple[dict[str, float | GpuctlError], dict[str, float | GpuctlError]]:
    """Between the pods, and between the hosts, by the peer's node."""
    node = listener.node
    deadline = ctx.deadline(TRANSFER_SECONDS, f"measuring bandwidth from {node.name}")
    arguments = (f"POD={peer.at('pod', 'tcp')}", f"HOST={peer.at('host', 'tcp')}", str(PUSH_SECONDS))
    said: Any
    try:
        said = _parsed(node, ctx.ssh.run(node, _script("push", listener.uid, *arguments), deadline=deadline))
    except GpuctlError as error:
        said = error

    def speed(way: str) -> float | GpuctlError:
        if isinstance(said, GpuctlError):
            return said
        if isinstance(said[way], str):
            return GpuctlError(f"the way from {node.name} could not be measured: {said[way]}")
        return float(said[way])

    return {peer.node.name: speed("pods")}, {peer.node.name: speed("hosts")}


def _stop(ctx: Context, listeners: list[_Listener]) -> None:
    """End the listeners, also when interrupted."""
    by_name = {listener.node.name: listener.said for listener in listeners}

    def script(node: Node) -> str:
        said = by_name[node.name]
        return f"kill {said['pod']['process']} {said['host']['process']} 2>/dev/null; true"

    deadline = Deadline.after(STOP_SECONDS, "ending the listeners")
    if listeners:
        ctx.ssh.run_all([listener.node for listener in listeners], script, deadline=deadline)


def _script(*arguments: str) -> str:
    source = (files("gpuctl.verify.paths") / "on_host.py").read_text(encoding="utf-8")
    return f"python3 - {shlex.join(arguments)} <<'END_OF_SCRIPT'\n{source}\nEND_OF_SCRIPT"


def _parsed(node: Node, done: Completed | GpuctlError) -> Any:
    """What the script printed; GpuctlError in its place when it did not work."""
    if isinstance(done, GpuctlError):
        return done
    try:
        return json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()
        return GpuctlError(
            f"the way from {node.name} could not be measured{': ' + said[-1] if said else ''}",
            where=f"host {node.name} ({node.address})",
        )
