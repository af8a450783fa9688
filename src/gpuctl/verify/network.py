"""From every host: does what Kubernetes programs there (kube-proxy) lead to the services behind it."""

from __future__ import annotations

import json
import shlex

from gpuctl.context import Context
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.systems.ssh import Completed

HOST_SECONDS = 90.0
TRIES, CONNECT_SECONDS = 5, 3
PORT = 443
SCRIPT = f"""
import json, socket, sys
found = {{}}
for target in sys.argv[1:]:
    answered = 0
    for _ in range({TRIES}):
        try:
            socket.create_connection((target, {PORT}), {CONNECT_SECONDS}).close()
            answered += 1
        except OSError:
            pass
    found[target] = answered
print(json.dumps(found))
"""


def targets(spec: Resolved) -> dict[str, str]:
    """Addresses by what they are: the API's Service, which every cluster has, and the ingress."""
    found = {"the API's ClusterIP": str(spec.kubernetes.service_cidr[1])}
    if spec.network.ingress_vip and spec.kubernetes.ingress != "none":
        found["the ingress"] = str(spec.network.ingress_vip)
    return found


def observe(ctx: Context) -> dict[str, dict[str, int] | GpuctlError]:
    """Connections that were answered, of TRIES, by target; by node name."""
    wanted = targets(ctx.spec)
    script = f"python3 -c {shlex.quote(SCRIPT)} {' '.join(wanted.values())}"
    said = ctx.ssh.run_all(ctx.spec.nodes, lambda _: script, deadline=ctx.deadline(HOST_SECONDS, "trying the services"))
    return {name: _read(name, wanted, done) for name, done in said.items()}


def _read(name: str, wanted: dict[str, str], done: Completed | GpuctlError) -> dict[str, int] | GpuctlError:
    if isinstance(done, GpuctlError):
        return done
    try:
        found = json.loads(done.stdout)
        return {what: int(found[address]) for what, address in wanted.items()}
    except (ValueError, KeyError) as error:
        return GpuctlError(f"{name} could not try the services", cause=done.stderr.strip()[-300:] or str(error))
