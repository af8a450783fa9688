"""A registry of images as files: an OCI image layout, filled once and served by the lab's mirror.

Layers are uncompressed tars: hosts on the same machine unpack them faster so. Big ones are folders that several images
share; each lies in the layout once. https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.images import Image, configuration, layer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Blob:
    """A stored file: its digest (``sha256:...``) and size in bytes."""

    digest: str
    size: int

    def describe(self, kind: str) -> dict[str, object]:
        return {"mediaType": kind, "digest": self.digest, "size": self.size}


def pack(folder: Path, file: Path, owner: Callable[[str], tuple[int, int]] = lambda _name: (0, 0)) -> None:
    """Write the folder as a layer. ``owner``: user and group of a path; times are equal, so same tree, same bytes."""

    def fixed(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid, entry.gid = owner(entry.name)
        entry.uname = entry.gname = ""
        entry.mtime = 0
        return entry

    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as tar:
        for child in sorted(folder.iterdir()):
            tar.add(child, child.name, filter=fixed)


class Layout:
    """Writes an OCI image layout into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs/sha256"
        self._blobs.mkdir(parents=True)

    def fill(self, images: Iterable[Image]) -> None:
        """Add the images and close the layout."""
        below: dict[Path, Blob] = {}
        manifests = []
        for image in images:
            for path in image.below:
                if path not in below:
                    below[path] = self._link(path)
            own = [self._store(layer(image))] if image.files or image.links or image.folders else []
            layers = [*(below[path] for path in image.below), *own]
            config = self._store(configuration(image, [blob.digest for blob in layers]))
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.describe(CONFIG),
                "layers": [blob.describe(LAYER) for blob in layers],
            }
            stored = self._store(json.dumps(manifest).encode())
            manifests.append({**stored.describe(MANIFEST), "annotations": {NAME: image.reference}})
        index = {"schemaVersion": 2, "manifests": manifests}
        (self._folder / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        (self._folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")

    def _store(self, data: bytes) -> Blob:
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        return Blob(f"sha256:{digest}", len(data))

    def _link(self, path: Path) -> Blob:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        os.link(path, self._blobs / digest)
        return Blob(f"sha256:{digest}", path.stat().st_size)


def references(folder: Path) -> dict[str, str]:
    """Digest of the manifest by the image's full name (host/name:tag)."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return {entry["annotations"][NAME]: entry["digest"] for entry in index["manifests"]}
