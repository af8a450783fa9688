"""The lab's own process: the emulated Proxmox API, the site's mirrors and a control socket, inside the LAN namespace.

It keeps no state worth saving: what must be cleaned up is found again by names and paths (lab/down.py), so a killed
daemon costs a rehearsal, never a leftover.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from lab import gitserver, mirror, network
from lab.build import Artifacts
from lab.hosts import Hosts
from lab.paths import API_PORT, GIT_PORT, MIRROR_PORT, SERVICE_ADDRESS, Instance
from lab.pve import api, tls
from lab.pve.site import Inventory
from lab.shell import LabError


class Daemon:
    """One running lab."""

    def __init__(self, instance: Instance, artifacts: Artifacts, gpus: int) -> None:
        self.instance = instance
        self.artifacts = artifacts
        self.hosts = Hosts(instance, artifacts.rootfs)
        self.secret = secrets.token_hex(16)
        self.inventory = Inventory.default(gpus=gpus)
        self.git = gitserver.GitServer(instance.root / "git", self.secret)
        self.pve = api.LabPve(self.inventory, self.hosts, self.secret, SERVICE_ADDRESS, API_PORT)

    # --- what the command line and the tests may call, by name

    def calls(self) -> dict[str, Callable[..., Any]]:
        """Calls that block; they run in a thread."""
        hosts, instance = self.hosts, self.instance
        return {
            "ping": lambda: "pong",
            "inside": lambda vmid, script, seconds=30: hosts.inside(vmid, script, seconds=seconds),
            "kill": hosts.kill,
            "reboot": hosts.reboot,
            "freeze": lambda vmid, frozen=True: hosts.freeze(vmid, frozen=frozen),
            "cut": lambda vmid, connected=False: network.cut(instance, vmid, connected=connected),
            "foreign-scratch": hosts.foreign_scratch.add,
            "card": hosts.break_card,
            "git": self.git.fault,
            "nfs": lambda gone=True: hosts.nfs(gone=gone),
            "requests": lambda: [[method, path] for method, path, _body in self.pve.requests],
        }

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """The named call's result; a fault of the API when it is none of ours."""
        known = self.calls().get(name)
        if known is None:
            return await self.pve.fault(name, **arguments)
        return await asyncio.to_thread(known, **arguments)

    async def control(self, request: web.Request) -> web.Response:
        try:
            result = await self.call(request.match_info["name"], await request.json())
        except (LabError, ValueError, TypeError, KeyError, OSError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        return web.json_response({"result": result})

    async def serve(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set. The control socket comes last: whoever can call, can use everything."""
        root = self.instance.root
        authority = tls.authority(root / "pve-ca.pem", root / "pve-tls.pem", SERVICE_ADDRESS)
        for path, text in (
            (root / "pve-token", f"{api.TOKEN}={self.secret}"),
            (self.instance.git_password, self.secret),
        ):
            path.touch(0o600)
            path.write_text(f"{text}\n", encoding="utf-8")
        await api.serve(self.pve, authority)
        runners = []
        try:
            for app, site in (
                (mirror.application(self.artifacts), lambda r: web.TCPSite(r, SERVICE_ADDRESS, MIRROR_PORT)),
                (self.git.application(), lambda r: web.TCPSite(r, SERVICE_ADDRESS, GIT_PORT)),
                (self._control_application(), lambda r: web.UnixSite(r, str(self.instance.control_socket))),
            ):
                runner = web.AppRunner(app, access_log=None)
                await runner.setup()
                runners.append(runner)
                await site(runner).start()
            await stop.wait()
        finally:
            for runner in runners:
                await runner.cleanup()
            await self.pve.stop()

    def _control_application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/{name}", self.control)
        return app


def inside_lan(instance: Instance) -> bool:
    """Whether this process is in the lab's network namespace."""
    try:
        return Path("/proc/self/ns/net").stat().st_ino == Path(f"/run/netns/{instance.lan}").stat().st_ino
    except OSError:
        return False


def main(instance: Instance, artifacts: Artifacts, gpus: int) -> None:
    """Run the daemon in the foreground until SIGTERM. LabError outside the lab's namespace."""
    if not inside_lan(instance):
        raise LabError(f"the daemon refuses to run outside the network namespace {instance.lan}")
    started = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    instance.daemon_file.write_text(json.dumps({"pid": os.getpid(), "start": started}), encoding="utf-8")

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await Daemon(instance, artifacts, gpus).serve(stop)

    asyncio.run(run())
