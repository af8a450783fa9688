#!/usr/bin/python
"""Make a host ready for Kubernetes in one call: packages, files, kernel settings, scratch disk, K3s binary, units.

Idempotent, with check mode and diff. The parameters are rendered by gpuctl (render/hosts.py), which documents them.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuctl_arp import who_has
from ansible.module_utils.gpuctl_fetch import fetch
from ansible.module_utils.gpuctl_state import Refused, State, alone, refuse_other_host, units

DOCUMENTATION = r"""
module: gpuctl_host
short_description: Make a host ready for Kubernetes in one call
options:
  desired: {description: The wanted state of the host., type: dict, required: true}
  seconds: {description: How long the call may take., type: int, default: 600}
"""
APT_SOURCE = "/etc/apt/sources.list.d/gpuctl.list"
PENDING = Path("/run/gpuctl.pending")
FORMATTING = Path("/var/lib/gpuctl/formatting-scratch")


def main() -> None:
    module = AnsibleModule(
        argument_spec={"desired": {"type": "dict", "required": True}, "seconds": {"type": "int", "default": 600}},
        supports_check_mode=True,
    )
    desired: dict[str, Any] = module.params["desired"]
    state = State(module.check_mode, time.monotonic() + module.params["seconds"], PENDING)
    try:
        refuse_other_host(desired["node"])
        with alone(state):
            packages(state, desired["packages"], desired["apt_source"])
            hold(state, desired["hold"])
            for entry in desired["files"]:
                state.file(entry["path"], entry["content"], int(entry["mode"], 8))
            for entry in desired["blocks"]:
                if Path(entry["path"]).exists() or not entry["optional"]:
                    state.block(entry["path"], entry["content"])
            kernel(state, desired["modules"], desired["sysctls"])
            swap(state)
            if desired["scratch"]:
                scratch(state, **desired["scratch"])
            fetch(state, **desired["k3s"])
            services(state, desired["units"], desired["vips"])
            state.settled()
    except Refused as refused:
        module.fail_json(changes=state.changes, **refused.result)
    module.exit_json(changed=bool(state.changes), changes=state.changes, diff=state.diffs)


def packages(state: State, wanted: Sequence[str], source: str) -> None:
    """Install what is missing; waits for another apt (the first boot's) until the deadline."""
    if source:
        state.file(APT_SOURCE, f"{source}\n")
    text = state.attempt(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n"]).stdout
    installed = {line.split()[1] for line in text.splitlines() if line.startswith("installed ")}
    missing = [name for name in wanted if name not in installed]
    if not missing or not state.note(f"packages {' '.join(missing)}", after="".join(f"{n}\n" for n in missing)):
        return
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
    apt = ["apt-get", "--quiet", "--yes", "-o", f"DPkg::Lock::Timeout={int(state.left)}"]
    if source:
        # the host's own sources are out of reach on such a site, and would only time out
        apt += ["-o", f"Dir::Etc::SourceList={APT_SOURCE}", "-o", "Dir::Etc::SourceParts=-"]
    waited = State(False, state.deadline)
    while (done := state.attempt(["dpkg", "--configure", "-a"], seconds=600, environment=quiet)).returncode:
        # what a host that died left half installed; exit 2 also while another dpkg holds the lock
        if "lock" not in done.stderr or not waited.left:
            raise Refused(
                "dpkg on the host is broken", cause=done.stderr.strip(), next="dpkg --configure -a on the host"
            )
        time.sleep(1)
    try:
        state.run([*apt, "update"], seconds=300, environment=quiet)
        options = ["--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
        state.run([*apt, "install", *options, *missing], seconds=900, environment=quiet)
    except Refused as refused:
        refused.result["next"] = (
            "check the host's package sources, or site.mirrors.apt; then run the same command again"
        )
        raise


def hold(state: State, patterns: Sequence[str]) -> None:
    """Keep apt from changing these installed packages: a new kernel would want new GPU drivers."""
    text = state.attempt(["dpkg-query", "--show", "--showformat=${Status}|${Package}\n"]).stdout
    rows = [line.split("|") for line in text.splitlines()]
    loose = sorted(
        package
        for status, package in rows
        if status == "install ok installed" and any(fnmatch.fnmatch(package, pattern) for pattern in patterns)
    )
    if loose and state.note(f"held {' '.join(loose)}"):
        state.run(["apt-mark", "hold", *loose])


def kernel(state: State, modules: Sequence[Mapping[str, str]], sysctls: Mapping[str, str]) -> None:
    """Load modules (``evidence`` exists once one is there, also when it is built in) and set kernel parameters."""
    for module in modules:
        if not Path(module["evidence"]).exists() and state.note(f"kernel module {module['name']}"):
            state.run(["modprobe", module["name"]])
    for name, wanted in sysctls.items():
        path = Path("/proc/sys", name.replace(".", "/"))
        try:
            now = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            if state.check:  # belongs to a module that is not loaded yet
                state.note(f"sysctl {name}", "", f"{wanted}\n")
                continue
            raise Refused(f"the kernel has no parameter {name}", next="boot the distribution's own kernel") from None
        if now.split() != wanted.split() and state.note(f"sysctl {name}", f"{now}\n", f"{wanted}\n"):
            path.write_text(wanted, encoding="utf-8")


def swap(state: State) -> None:
    """Swap off for good: systemd has a unit for each swap, from fstab or not."""
    text = state.run(["systemctl", "list-units", "--all", "--type=swap", "--plain", "--no-legend", "--no-pager"])
    for line in text.splitlines():
        unit, load = line.split()[:2]
        if load != "masked" and state.note(f"swap {unit} off"):
            state.run(["systemctl", "mask", "--now", unit])


def scratch(state: State, device: str, label: str) -> None:
    """Make a file system on the scratch disk if, and only if, there is nothing on it."""
    if not Path(device).exists():
        raise Refused(
            f"there is no disk {device}",
            cause="the scratch disk is not attached, or not with this serial number",
            next="look at the VM's hardware: scsi1 needs serial=scratch",
        )
    probed = state.attempt(["blkid", "--probe", "--output", "export", device])
    found = dict(line.partition("=")[::2] for line in probed.stdout.splitlines())
    if found.get("TYPE") == "ext4" and found.get("LABEL") == label:
        FORMATTING.unlink(missing_ok=True)
        return
    nothing = probed.returncode == 2 and not found
    half_made = FORMATTING.exists() and FORMATTING.read_text(encoding="utf-8") == device and found.get("TYPE") == "ext4"
    if not nothing and not half_made:
        holds = " ".join(f"{key}={value}" for key, value in found.items() if key != "DEVNAME") or "unclear signatures"
        raise Refused(
            f"the scratch disk {device} is not blank",
            cause=f"it holds {holds}; gpuctl formats blank disks only",
            next=f"if nothing on it is needed: wipefs --all {device} on the host; then run the same command again",
        )
    if state.note(f"scratch disk formatted ({label})", "blank\n", f"ext4 {label}\n", device):
        FORMATTING.parent.mkdir(parents=True, exist_ok=True)
        FORMATTING.write_text(device, encoding="utf-8")
        state.run(["mkfs.ext4", "-q", "-F", "-L", label, "-m", "0", device], seconds=600)
        FORMATTING.unlink()


def services(state: State, wanted: Sequence[Mapping[str, Any]], vips: Sequence[Mapping[str, Any]]) -> None:
    """Enable and start units; restart or reload those whose files changed, or whose ``proof`` command fails."""
    if any(path.startswith("/etc/systemd/system/") for path in state.touched) and not state.check:
        state.run(["systemctl", "daemon-reload"])
    known = units(state, [unit["name"] for unit in wanted])
    for unit in wanted:
        name, facts = unit["name"], known[unit["name"]]
        # a package that would be installed only now has no unit yet
        if unit["enabled"] and facts["UnitFileState"] in ("disabled", "") and state.note(f"{name} enabled"):
            state.run(["systemctl", "enable", name])
        proven = not unit["proof"] or state.attempt(unit["proof"]).returncode == 0
        if facts["ActiveState"] != "active" or not proven:
            if name == "keepalived.service":
                refuse_strangers(vips)
            if state.note(f"{name} started"):
                state.run(["systemctl", "restart", name], seconds=120)
        elif state.touched & set(unit["files"]):
            verb = unit["verb"]
            if name == "keepalived.service":
                refuse_strangers(vips)
            if state.note(f"{name} {verb}ed"):
                state.run(["systemctl", verb, name], seconds=120)


def refuse_strangers(vips: Sequence[Mapping[str, Any]]) -> None:
    """Before keepalived takes addresses: one that somebody else answers for must not be taken."""
    for vip in vips:
        holder = who_has(vip["address"], vip["interface"])
        if holder and holder not in vip["ours"]:
            raise Refused(
                f"the address {vip['address']} ({vip['setting']}) is used by a stranger ({holder})",
                cause=f"a machine with the MAC address {holder}, none of this cluster's servers, answers for it",
                next=f"free the address, or choose another {vip['setting']}",
            )


if __name__ == "__main__":
    main()
