"""The emulated server's certificate: signed by itself, so the certificate is the CA that gpuctl is given."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fakepve.certs import make_cert


def authority(ca: Path, key: Path, address: str) -> tuple[Path, Path]:
    """Write certificate and key (0600) for the address; returns both paths."""
    with tempfile.TemporaryDirectory() as folder:
        made, private, _ = make_cert(folder, hosts=(address,))
        key.touch(0o600)
        key.write_bytes(Path(private).read_bytes())
        shutil.copyfile(made, ca)
    return ca, key
