#!/usr/bin/python
"""Configure and run K3s on a host, and wait until the node is ready in the wanted version.

Idempotent, with check mode and diff. Called for one server after the other, then for all agents at once.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuctl_fetch import STORE, binary
from ansible.module_utils.gpuctl_state import Refused, State, alone, refuse_other_host, units

DOCUMENTATION = r"""
module: gpuctl_k3s
short_description: Configure and run K3s, and wait until the node is ready
options:
  desired: {description: The wanted state, see gpuctl's render/hosts.py., type: dict, required: true}
  server_token: {description: Secret for servers, in place of @server_token@., type: str, default: ""}
  agent_token: {description: Secret for agents, in place of @agent_token@., type: str, default: ""}
  ca_hash: {description: Hash of the cluster's CA, in place of @ca_hash@., type: str, default: ""}
  seconds: {description: How long the call may take., type: int, default: 300}
"""
CONFIG = "/etc/rancher/k3s/config.yaml"
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
REGISTRIES_MARK = "# Written by gpuctl"
LINK = Path("/usr/local/bin/k3s")
AGENT = Path("/var/lib/rancher/k3s/agent")
# what a starting K3s made of a registries.yaml that names a mirror for everything
MIRROR = AGENT / "etc/containerd/certs.d/_default/hosts.toml"
TOKEN = Path("/var/lib/rancher/k3s/server/token")
# the local load balancer of an agent, the API server itself on a server
NODE_API = "https://127.0.0.1:6444"
# a unit that systemd had to start again this often will not come up by itself
RESTARTS = 4


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "desired": {"type": "dict", "required": True},
            "server_token": {"type": "str", "default": "", "no_log": True},
            "agent_token": {"type": "str", "default": "", "no_log": True},
            "ca_hash": {"type": "str", "default": ""},
            "seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    desired: dict[str, Any] = given["desired"]
    state = State(module.check_mode, time.monotonic() + given["seconds"])
    config: str = desired["config"]
    for name in ("server_token", "agent_token", "ca_hash"):
        if given[name]:
            config = config.replace(f"@{name}@", given[name])
    try:
        refuse_other_host(desired["node"])
        with alone(state):
            restarted = configure(state, desired, config)
            if not state.check:
                wait_until_ready(state, desired)
                clean(desired["version"])
    except Refused as refused:
        module.fail_json(changes=state.changes, **refused.result)
    module.exit_json(
        changed=bool(state.changes), changes=state.changes, diff=state.diffs, restart=restarted, ca_hash=ca_hash()
    )


def configure(state: State, desired: Mapping[str, Any], config: str) -> bool:
    """Write what K3s reads and (re)start it when that changed; whether it was running and is restarted."""
    unit = desired["unit"]
    state.file(f"/etc/systemd/system/{unit}", desired["unit_text"])
    state.file(CONFIG, config, 0o600)
    if desired["registries"]:
        state.file(REGISTRIES, f"{REGISTRIES_MARK}\n{desired['registries']}", 0o600)
    else:
        state.absent(REGISTRIES, REGISTRIES_MARK)
    now = str(LINK.readlink()) if LINK.is_symlink() else ""
    wanted = str(binary(desired["version"]))
    if now != wanted:
        state.touched.add(str(LINK))
        before = f"{Path(now).parent.name}\n" if now else ""
        if state.note(f"k3s {desired['version']} in use", before, f"{desired['version']}\n", str(LINK)):
            LINK.parent.mkdir(parents=True, exist_ok=True)
            temporary = LINK.with_name(".k3s.gpuctl")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(wanted)
            temporary.replace(LINK)
    if state.touched and not state.check:
        state.run(["systemctl", "daemon-reload"])
    facts = units(state, [unit])[unit]
    if facts["UnitFileState"] in ("disabled", "") and state.note(f"{unit} enabled"):
        state.run(["systemctl", "enable", unit])
    runs = facts["ActiveState"] == "active"
    if runs and not state.touched and not stale(state, unit):
        return False
    if facts["ActiveState"] == "activating" and not state.touched and facts["SubState"] == "start":
        return False  # an earlier run started it; it only has to be waited for
    if state.note(f"{unit} {'restarted' if runs else 'started'}"):
        state.run(["systemctl", "reset-failed", unit]) if facts["ActiveState"] == "failed" else None
        state.run(["systemctl", "restart", "--no-block", unit])
    return runs


def stale(state: State, unit: str) -> bool:
    """Whether the service is older than its configuration: a run was killed between writing and restarting."""
    text = state.run(["systemctl", "show", "--property=ExecMainStartTimestamp", "--timestamp=unix", unit])
    started = re.search(r"@(\d+)", text)
    newest = max(Path(CONFIG).stat().st_mtime, Path(f"/etc/systemd/system/{unit}").stat().st_mtime)
    newest = max(newest, LINK.lstat().st_mtime)
    registries = Path(REGISTRIES)
    if registries.exists():
        newest = max(newest, registries.stat().st_mtime)
    elif MIRROR.exists():
        return True
    return started is not None and int(started[1]) + 1 < newest


def wait_until_ready(state: State, desired: Mapping[str, Any]) -> None:
    """Until the service is active and the node Ready in this version; Refused with the journal's end otherwise."""
    unit = desired["unit"]
    fatal = re.compile("|".join(desired["fatal"]) or r"(?!)")
    seen = ""
    since = f"-{int(desired['settle_seconds'])}s"
    while True:
        facts = units(state, [unit])[unit]
        active = facts["ActiveState"] == "active"
        seen = node_state(desired) if active else f"{unit} is {facts['ActiveState']} ({facts['SubState']})"
        if active and seen == "ready":
            return
        if not active:
            journal = state.run(["journalctl", f"--unit={unit}", "--output=cat", "--lines=40", f"--since={since}"])
            hopeless = facts["ActiveState"] == "failed" or int(facts["NRestarts"] or 0) >= RESTARTS
            if hopeless or fatal.search(journal):
                raise Refused(f"{unit} does not come up", cause=seen, journal=journal.splitlines()[-15:], unit=unit)
        if not state.left:
            journal = state.attempt(["journalctl", f"--unit={unit}", "--output=cat", "--lines=15"], seconds=10).stdout
            raise Refused(f"{unit} was not ready in time", cause=seen, journal=journal.splitlines(), unit=unit)
        time.sleep(0.3)


def node_state(desired: Mapping[str, Any]) -> str:
    """``ready``, or what the node lacks; asked with the kubelet's own certificate."""
    try:
        context = ssl.create_default_context(cafile=str(AGENT / "server-ca.crt"))
        context.load_cert_chain(AGENT / "client-kubelet.crt", AGENT / "client-kubelet.key")
        url = f"{NODE_API}/api/v1/nodes/{desired['node']}"
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            status = json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        return f"the API answers {error.code} for the node {desired['node']}"
    except (OSError, ValueError) as error:
        return f"the API does not answer on the host: {error}"
    version = status["nodeInfo"]["kubeletVersion"]
    if version != desired["version"]:
        return f"the node still reports {version}"
    for condition in status.get("conditions", ()):
        if condition["type"] == "Ready":
            return "ready" if condition["status"] == "True" else f"not ready: {condition.get('message', '')}"
    return "the node has no Ready condition yet"


def ca_hash() -> str:
    """The hash of the cluster's CA, from the token that a server keeps: K10<hash>::server:<secret>."""
    try:
        found = re.match(r"K10([0-9a-f]+)::", TOKEN.read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[1] if found else ""


def clean(version: str) -> None:
    """Drop binaries of other versions: 60 to 130 MB each, and a downgrade is refused anyway."""
    for folder in STORE.iterdir():
        if folder.name != version:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


if __name__ == "__main__":
    main()
