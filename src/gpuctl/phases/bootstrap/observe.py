"""One look at every host at once: which interface, which cluster, what data."""

from __future__ import annotations

import json

from gpuctl.context import Context
from gpuctl.phases.bootstrap import lasting
from gpuctl.render.hosts import Observed
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node

SECONDS = 60.0
_SCRIPT = r"""python3 - <<'END'
import glob, json, os, re, subprocess
def text(path):
    try:
        return open(path, encoding="utf-8").read()
    except OSError:
        return ""
found = {"interface": "", "mac": ""}
for link in json.loads(subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True).stdout):
    if any(a.get("local") == "@address@" for a in link.get("addr_info", ())):
        found.update(interface=link["ifname"], mac=link.get("address", ""))
token = re.match(r"K10([0-9a-f]+)::", text("/var/lib/rancher/k3s/server/token"))
config = text("/etc/rancher/k3s/config.yaml")
found["data"] = os.path.isdir("/var/lib/rancher/k3s/server/db/etcd")
found["founder"] = bool(re.search(r"^cluster-init: true", config, re.M))
found["member"] = os.path.exists("/etc/rancher/node/password")
found["ca_hash"] = token[1] if token else ""
found["reboot"] = os.path.exists("/run/reboot-required") and not config
found["settings"] = dict(re.findall(r"^(@lasting@): (.+)$", config, re.M)) if found["data"] else {}
link = re.search(r"/(v\d+\.\d+\.\d+[^/]*)/k3s$", os.path.realpath("/usr/local/bin/k3s"))
found["version"] = link[1] if link and found["member"] else ""
found["snapshots"] = len(glob.glob("/var/lib/rancher/k3s/server/db/snapshots/*"))
print(json.dumps(found))
END"""


def all_hosts(ctx: Context) -> dict[str, Observed]:
    """What was seen, by node name. GpuctlError when a host cannot be looked at."""
    deadline = ctx.deadline(SECONDS, "looking at the hosts")
    results = ctx.ssh.run_all(ctx.spec.nodes, _script, deadline=deadline)
    errors = [result for result in results.values() if isinstance(result, GpuctlError)]
    if errors:
        if len(errors) > 1:
            errors[0].cause += f"\n{len(errors) - 1} more hosts cannot be reached either"
        raise errors[0]
    seen = {}
    for node in ctx.spec.nodes:
        result = results[node.name]
        if isinstance(result, GpuctlError):
            raise result
        try:
            seen[node.name] = Observed(**json.loads(result.stdout))
        except (ValueError, TypeError) as error:
            raise GpuctlError(
                f"{node.name} could not be looked at",
                where=f"host {node.name} ({node.address})",
                cause=result.stderr.strip() or str(error),
                next="is python3 there? gpuctl needs an image with it",
            ) from error
        if not seen[node.name].interface:
            raise GpuctlError(
                f"{node.name} answers at {node.address} but has no interface with that address",
                where=f"host {node.name}",
                cause="another machine answers there, or the address is translated",
            )
    return seen


def _script(node: Node) -> str:
    return _SCRIPT.replace("@address@", str(node.address)).replace("@lasting@", "|".join(lasting.LASTING))
