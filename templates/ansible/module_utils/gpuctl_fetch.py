"""Fetch K3s by checksum: from its releases, a mirror, or a folder on the host itself."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from ansible.module_utils.gpuctl_state import Refused, State, write

STORE = Path("/usr/local/lib/gpuctl/k3s")
IMAGES = Path("/var/lib/rancher/k3s/agent/images")
SUMS = "sha256sum-amd64.txt"
# what a release offers, the smallest first; a mirror may hold only one of them
IMAGE_FILES = ("k3s-airgap-images-amd64.tar.zst", "k3s-airgap-images-amd64.tar.gz", "k3s-airgap-images-amd64.tar")
CHUNK = 1 << 20
CONNECT_SECONDS = 20


def binary(version: str) -> Path:
    """Where the binary of this version lies; /usr/local/bin/k3s is a link to the one in use."""
    return STORE / version / "k3s"


def fetch(state: State, version: str, source: str, want_images: bool) -> None:
    """Have the binary (and the images) of this version on the host. Unchanged files are known by size and time."""
    stamp = STORE / version / "stamp.json"
    known = _read_stamp(stamp)
    images_are_there = any(_as_stamped(IMAGES / name, known) for name in IMAGE_FILES) or "no-images" in known
    if _as_stamped(binary(version), known) and (images_are_there or not want_images):
        return
    if not state.note(f"k3s {version}", "", f"{source}/{version}\n", "k3s"):
        return
    sums = _sums(state, source, version)
    wanted = {"k3s": binary(version)}
    offered = [name for name in IMAGE_FILES if name in sums]
    if want_images and offered:
        wanted[offered[0]] = IMAGES / offered[0]
    stamped: dict[str, object] = {} if offered else {"no-images": True}
    for name, target in wanted.items():
        if name not in sums:
            raise Refused(f"{source}/{version}/{SUMS} does not name {name}", next="check the mirror's content")
        if not _as_stamped(target, known):
            _download(state, _url(source, version, name), target, sums[name])
        target.chmod(0o755 if name == "k3s" else 0o644)
        facts = target.stat()
        stamped[str(target)] = {"sha256": sums[name], "size": facts.st_size, "mtime": facts.st_mtime_ns}
    write(stamp, json.dumps(stamped, sort_keys=True), 0o644)


def _read_stamp(path: Path) -> dict[str, dict[str, int]]:
    try:
        stamp: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp


def _as_stamped(path: Path, known: dict[str, dict[str, int]]) -> bool:
    stamp = known.get(str(path))
    try:
        facts = path.stat()
    except OSError:
        return False
    return stamp is not None and (stamp["size"], stamp["mtime"]) == (facts.st_size, facts.st_mtime_ns)


def _url(source: str, version: str, name: str) -> str:
    return f"{source}/{urllib.parse.quote(version, safe='')}/{name}"


def _sums(state: State, source: str, version: str) -> dict[str, str]:
    url = _url(source, version, SUMS)
    try:
        with urllib.request.urlopen(url, timeout=min(CONNECT_SECONDS, max(1.0, state.left))) as answer:
            text = answer.read(1 << 20).decode()
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from error
    lines = (line.split() for line in text.splitlines())
    return {words[1].lstrip("*"): words[0].lower() for words in lines if len(words) == 2}


def _download(state: State, url: str, target: Path, wanted: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.gpuctl")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer, temporary.open("wb") as stream:
            while chunk := answer.read(CHUNK):
                if not state.left:
                    raise Refused(f"{url} was not fetched in time", next="check the link to the source; run it again")
                digest.update(chunk)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise _unreachable(url, error) from error
    if digest.hexdigest() != wanted:
        temporary.unlink(missing_ok=True)
        raise Refused(
            f"{url} has the wrong checksum",
            cause=f"sha256 {digest.hexdigest()}, but {SUMS} says {wanted}: the file is damaged or was replaced",
            next="fetch the release anew into the mirror (site.mirrors.k3s), then run the same command again",
        )
    os.utime(temporary, (time.time(), time.time()))
    temporary.replace(target)


def _unreachable(url: str, error: Exception) -> Refused:
    cause = str(error.reason) if isinstance(error, urllib.error.URLError) else str(error)
    return Refused(f"cannot fetch {url}", cause=cause, next="check site.mirrors.k3s, or the hosts' way to the internet")
