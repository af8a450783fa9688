"""The lab's network: a namespace that is the LAN (bridge, gateway, the service address), one namespace per host."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Interface
from pathlib import Path

from lab.paths import SERVICE_ADDRESS, Instance
from lab.shell import LabError, run

BRIDGE = "br0"


def _ip(namespace: str, *arguments: str) -> None:
    run(["ip", "-n", namespace, *arguments])


def _sysctl(namespace: str, path: str, value: str) -> None:
    run(["nsenter", f"--net=/run/netns/{namespace}", "sh", "-c", f"echo {value} > /proc/sys/net/{path}"])


def up(instance: Instance, gateway: IPv4Interface) -> None:
    """Make the LAN namespace: br0 with the gateway's address, and the service address beside it."""
    lan = instance.lan
    run(["ip", "netns", "add", lan])
    _ip(lan, "link", "set", "lo", "up")
    _ip(lan, "addr", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo")
    _ip(lan, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    _ip(lan, "addr", "add", str(gateway), "dev", BRIDGE)
    _ip(lan, "link", "set", BRIDGE, "up")
    _sysctl(lan, "ipv4/ip_forward", "1")


def add_host(instance: Instance, vmid: int, mac: str, address: IPv4Interface, gateway: str) -> None:
    """Plug a host into the bridge: eth0 with its MAC, its address and the default route."""
    lan, namespace = instance.lan, instance.host_namespace(vmid)
    remove_host(instance, vmid)
    run(["ip", "netns", "add", namespace])
    _ip(namespace, "link", "set", "lo", "up")
    _ip(lan, "link", "add", f"v{vmid}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _ip(lan, "link", "set", f"v{vmid}", "master", BRIDGE, "up")
    _ip(namespace, "link", "set", "eth0", "address", mac)
    _ip(namespace, "addr", "add", str(address), "dev", "eth0")
    _ip(namespace, "link", "set", "eth0", "up")
    with contextlib.suppress(LabError):  # a gateway outside the address range is the spec's mistake, seen as no route
        _ip(namespace, "route", "add", "default", "via", gateway)


def remove_host(instance: Instance, vmid: int) -> None:
    """Unplug a host; nothing happens when it is not there."""
    run(["ip", "-n", instance.lan, "link", "del", f"v{vmid}"], check=False)
    run(["ip", "netns", "del", instance.host_namespace(vmid)], check=False)


def cut(instance: Instance, vmid: int, *, connected: bool) -> None:
    """Take the host's cable out, or put it back."""
    _ip(instance.lan, "link", "set", f"v{vmid}", "up" if connected else "down")


def delay(instance: Instance, vmid: int, milliseconds: int) -> None:
    """Delay what goes to the host; 0 ends it."""
    device = ["dev", f"v{vmid}", "root"]
    run(["tc", "-n", instance.lan, "qdisc", "del", *device], check=False)
    if milliseconds:
        run(["tc", "-n", instance.lan, "qdisc", "add", *device, "netem", "delay", f"{milliseconds}ms"])


def down(instance: Instance) -> None:
    """Remove every namespace of the instance."""
    folder = Path("/run/netns")
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if entry.name == instance.lan or entry.name.startswith(f"{instance.lan}-"):
            run(["ip", "netns", "del", entry.name], check=False)
            entry.unlink(missing_ok=True)
