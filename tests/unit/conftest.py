"""The lab's emulated Proxmox API on loopback, alone: no VM of it runs, nothing of the lab's network is there."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# in the background of a script SIGINT is ignored, and what we start would inherit that: a shell cannot trap it then
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Emulated:
    """``api`` is the emulator, to break things in; ``api.networks``: its bridges. ``ca`` and ``token`` are files."""

    api: Any
    endpoint: str
    ca: Path
    token: Path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of the emulated server."""
    from lab.pve import tls

    folder = tmp_path_factory.mktemp("tls")
    return tls.authority(folder / "ca.pem", folder / "key.pem", "127.0.0.1")


@pytest.fixture
def pve(tmp_path: Path, authority: tuple[Path, Path]) -> Iterator[Emulated]:
    from lab.pve import api
    from lab.pve.site import Inventory

    class Loopback(api.LabPve):
        networks = ({"iface": "vmbr0", "type": "bridge", "cidr": "10.0.0.2/24", "gateway": "10.0.0.1"},)

        async def _network(self, _values: Any, _user: str) -> list[dict[str, Any]]:
            return [dict(network) for network in self.networks]

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = "0123456789abcdef0123456789abcdef"
    machines: Any = SimpleNamespace(running=lambda _: False)
    server = Loopback(Inventory.default(gpus=2), machines, secret, "127.0.0.1", port)
    token = tmp_path / "pve-token"
    token.write_text(f"{api.TOKEN}={secret}\n", encoding="utf-8")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(api.serve(server, authority), loop).result(30)
    try:
        yield Emulated(server, f"https://127.0.0.1:{port}", authority[0], token)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
