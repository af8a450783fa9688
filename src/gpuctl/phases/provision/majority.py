"""No run takes so many servers away that etcd loses its majority, and with it the cluster.

Raft needs more than half of its members (etcd.io, FAQ: failure tolerance). A VM goes before its member can leave, so
the ones that stay have to be a majority of what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpuctl.context import Context
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.systems.terraform import VM_TYPE, Resource, ResourceChange

SECONDS = 30.0
NEVER, STOPPED = "never", "stopped"
# how many members etcd has as this server knows it, itself included; or NEVER, or STOPPED
_ASK = f"""python3 - <<'END_OF_SCRIPT'
import os, re, urllib.request
state = "{STOPPED}" if os.path.isdir("/var/lib/rancher/k3s/server/db/etcd") else "{NEVER}"
try:
    metrics = urllib.request.urlopen("http://127.0.0.1:2381/metrics", timeout=10).read().decode()
    peers = re.findall(r'^etcd_network_known_peers{{.*Remote="(\\w+)".*}} 1$', metrics, re.M)
    state = len({{*peers, *re.findall(r'^etcd_server_id{{server_id="(\\w+)"}} 1$', metrics, re.M)}}) or state
except OSError:
    pass
print(state)
END_OF_SCRIPT"""


def refuse_loss(ctx: Context, state: Sequence[Resource], planned: Sequence[ResourceChange]) -> None:
    """Look at etcd on the servers where some of several would go. GpuctlError: too few would stay."""
    servers = [
        r.key for r in state if r.type == VM_TYPE and not r.tainted and "control-plane" in (r.values.get("tags") or ())
    ]
    going = [c.key for c in planned if c.type == VM_TYPE and "delete" in c.actions and c.key in servers]
    if not going or len(servers) == 1:
        return
    nodes = [node for node in ctx.spec.nodes if node.name in servers]
    answers = ctx.ssh.run_all(nodes, lambda _: _ASK, deadline=ctx.deadline(SECONDS, "looking at etcd's members"))
    seen = {name: "" if isinstance(said, GpuctlError) else said.stdout.strip() for name, said in answers.items()}
    judge(servers, going, seen, replaced=[c.key for c in planned if c.key in going and "create" in c.actions])


def judge(servers: Sequence[str], going: Sequence[str], seen: Mapping[str, str], *, replaced: Sequence[str]) -> None:
    """``seen`` by server: the number of etcd's members as it knows them, STOPPED or NEVER, "" where nobody answered.

    GpuctlError: too few would stay.
    """
    if seen and all(state == NEVER for state in seen.values()):
        return  # there is no cluster yet
    # a cluster that was reset to one member has fewer than servers
    members = max((int(state) for state in seen.values() if state.isdecimal()), default=len(servers))
    staying = [name for name in servers if name not in going]
    alive = [name for name in staying if seen.get(name, "").isdecimal()]
    if len(alive) * 2 > members:
        return
    down = [name for name in staying if name not in alive]
    cause = f"of {members} members {members // 2 + 1} have to run on; {' and '.join(alive) or 'none'} would"
    cause += f", {' and '.join(down)} does not run etcd now" if down else ""
    if down:
        way_out = f"first bring {down[0]} back (gpuctl status), then run the same command again"
    elif replaced:
        way_out = f"one server a run: gpuctl apply --replace {replaced[0]}, and the next when that has ended well"
    elif (fewer := len(servers) - 2) > 1:
        way_out = f"two servers a run: first nodes.control_plane.count: {fewer}"
    else:
        way_out = "keep them; a cluster with one server is made anew: gpuctl destroy, then gpuctl apply"
    raise GpuctlError(
        f"etcd would lose its majority, and the cluster with it: {' and '.join(going)} would go in one run",
        cause=cause,
        next=way_out,
        exit_code=Exit.USAGE,
    )
