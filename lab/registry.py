"""The site's registry: mirrors every image under its own name, read-only.

The pulling half of https://github.com/opencontainers/distribution-spec; containerd names the registry that it would ask
otherwise in ``?ns=``. Everything else is refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web

from lab import oci

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def add(app: web.Application, folder: Path) -> None:
    """Serve the OCI image layout in ``folder`` below ``/v2/``."""
    names = oci.references(folder)
    manifests = set(names.values())

    def file(digest: str) -> Path | None:
        found = DIGEST.fullmatch(digest)
        path = folder / "blobs/sha256" / found[1] if found else None
        return path if path and path.is_file() else None

    async def version(_request: web.Request) -> web.StreamResponse:
        return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    async def manifest(request: web.Request) -> web.StreamResponse:
        name, wanted, host = request.match_info["name"], request.match_info["reference"], request.query.get("ns", "")
        known = any(reference.startswith(f"{host}/{name}:") for reference in names)
        digest = names.get(f"{host}/{name}:{wanted}", wanted)
        path = file(digest)
        if not known or digest not in manifests or path is None:
            return refusal(404, "MANIFEST_UNKNOWN", f"this registry does not mirror {host}/{name}:{wanted}")
        headers = {"Content-Type": oci.MANIFEST, "Docker-Content-Digest": digest}
        return web.Response(body=path.read_bytes(), headers=headers)

    async def blob(request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        path = file(digest)
        if path is None:
            return refusal(404, "BLOB_UNKNOWN", digest)
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        return web.FileResponse(path, headers=headers)

    async def other(request: web.Request) -> web.StreamResponse:
        return refusal(405, "UNSUPPORTED", f"{request.method} {request.path}: this registry is only pulled from")

    app.router.add_get("/v2/", version)
    app.router.add_get("/v2/{name:.+}/manifests/{reference}", manifest)
    app.router.add_get("/v2/{name:.+}/blobs/{digest}", blob)
    app.router.add_route("*", "/v2/{rest:.*}", other)


def refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)
