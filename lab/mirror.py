"""What an air-gapped site offers over HTTP: K3s, Debian packages, the OS image, container images."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web

from lab import registry
from lab.build import K3S_VERSION, Artifacts


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def application(artifacts: Artifacts) -> web.Application:
    """``/k3s/{version}/`` as K3s names its files, ``/apt/`` a flat repository, ``/image/``, ``/v2/`` a registry."""
    files = {"k3s": artifacts.k3s, "k3s-airgap-images-amd64.tar": artifacts.airgap}
    sums = "".join(f"{sha256(path)}  {name}\n" for name, path in files.items())

    async def k3s(request: web.Request) -> web.StreamResponse:
        version, name = request.match_info["version"], request.match_info["name"]
        if version != K3S_VERSION:
            raise web.HTTPNotFound(text=f"this mirror has K3s {K3S_VERSION} only\n")
        if name == "sha256sum-amd64.txt":
            return web.Response(text=sums)
        if name not in files:
            raise web.HTTPNotFound
        return web.FileResponse(files[name])

    async def image(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(artifacts.os_image)

    app = web.Application()
    app.router.add_get("/k3s/{version}/{name}", k3s)
    app.router.add_get("/image/debian-12.qcow2", image)
    app.router.add_static("/apt", artifacts.apt)
    registry.add(app, artifacts.registry)
    return app
