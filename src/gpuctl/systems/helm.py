"""Helm: releases are observed in the cluster's own records, changed by the real command.

A release's record is a Secret of type helm.sh/release.v1 (labels owner, name, status, version; data.release is the
gzipped JSON in base64, twice): Helm's documented default storage. Reading it costs one request for all releases.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuctl.run import children
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, GpuctlError
from gpuctl.run.workspace import data_folder, write_private

if TYPE_CHECKING:
    from gpuctl.context import Context
    from gpuctl.render.charts import Release

# on a release's record: whose it is; to which bundle of Fleet it was given, which has not taken it yet
OWNER, GIVEN = "gpuctl.io/cluster", "gpuctl.io/given-to"
# Fleet marks the charts of its releases (fleet: internal/helmdeployer)
BUNDLE_MARK, KEEP_MARK = "fleet.cattle.io/bundle-id", "fleet.cattle.io/keep-resources"
PULL_SECONDS, RENDER_SECONDS, APPLY_SECONDS = 300.0, 60.0, 300.0
HISTORY = 5
NEEDS = "3.14"


@dataclass(frozen=True)
class Installed:
    """The newest revision of a release. ``status`` as Helm's: deployed, failed, pending-install, ...

    ``values`` are those given by its owner; ``labels`` those of its record; ``app``: the version of what it installs.
    ``bundle``: the bundle of Fleet that it belongs to, "" for none; ``kept``: Fleet leaves its objects when that goes.
    """

    name: str
    namespace: str
    revision: int
    status: str
    chart: str
    version: str
    values: Mapping[str, Any]
    manifest: str
    labels: Mapping[str, str]
    app: str = ""
    bundle: str = ""
    kept: bool = False

    @property
    def record(self) -> str:
        """API path of the Secret that is its record."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/sh.helm.release.v1.{self.name}.v{self.revision}"

    @property
    def pending(self) -> bool:
        """A Helm that was killed left it so; Helm itself refuses to go on from here."""
        return self.status.startswith("pending-") or self.status == "uninstalling"


class Helm:
    """Works with the workspace's kubeconfig and folders of its own in the workspace."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._root = ctx.workspace.root / "helm"

    @classmethod
    def of(cls, ctx: Context) -> Helm:
        return cls(ctx)

    def installed(self) -> dict[str, Installed]:
        """Every release of the cluster by ``namespace/name``."""
        newest: dict[str, tuple[int, dict[str, Any]]] = {}
        for secret in self._ctx.kubernetes.list("/api/v1/secrets", labelSelector="owner=helm"):
            labels = secret["metadata"]["labels"]
            key, revision = f"{secret['metadata']['namespace']}/{labels['name']}", int(labels["version"])
            if key not in newest or revision > newest[key][0]:
                newest[key] = revision, secret
        return {key: _parsed(secret) for key, (_, secret) in newest.items()}

    def chart(self, release: Release) -> tuple[Path, str]:
        """The chart's package in the workspace and its sha256, fetched once; a digest that was seen is never replaced.

        For a chart of our own its folder.
        Raises GpuctlError when there is no such chart, or it is another one than before.
        """
        if release.own:
            folder = data_folder("templates") / "charts" / release.chart
            return folder, _digest_of(folder)
        name = f"{release.chart}-{release.version}.tgz"
        package = self._root / "charts" / name
        known = self._digests().get(name)
        if not package.exists():
            package.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fetch(release, package)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        if known is None:
            write_private(self._pins, json.dumps({**self._digests(), name: digest}, indent=1, sort_keys=True) + "\n")
        elif known != digest:
            package.unlink()
            raise GpuctlError(
                f"the chart {name} is not the one that was used before",
                where=self._ctx.spec.site.mirrors.charts or release.repository,
                cause=f"sha256 {digest} instead of {known}",
                next=f"find out who replaced it; if it is right, remove its line from {self._pins}",
            )
        return package, digest

    def chart_files(self, release: Release) -> dict[str, bytes]:
        """The chart's files by their path in it."""
        package, _ = self.chart(release)
        if package.is_dir():
            paths = sorted(path for path in package.rglob("*") if path.is_file())
            return {str(path.relative_to(package)): path.read_bytes() for path in paths}
        found = {}
        try:
            with tarfile.open(package) as archive:
                for member in archive.getmembers():
                    stream = archive.extractfile(member)
                    if stream and (inside := member.name.partition("/")[2]):
                        found[inside] = stream.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise GpuctlError(
                f"the chart {package.name} cannot be read", where=str(package), cause=str(error) or "it is cut off"
            ) from error
        return dict(sorted(found.items()))

    @property
    def _pins(self) -> Path:
        return self._root / "charts.json"

    def _digests(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._pins.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def _fetch(self, release: Release, package: Path) -> None:
        mirror = self._ctx.spec.site.mirrors.charts
        if mirror and not mirror.startswith("oci://"):
            try:
                data = (Path(mirror) / package.name).read_bytes()
            except OSError as error:
                raise GpuctlError(
                    f"the chart {package.name} is not in the mirror",
                    where=mirror,
                    cause=str(error.strerror),
                    next=f"put {package.name} there (helm pull {release.chart} --repo {release.repository}"
                    f" --version {release.version})",
                ) from error
            write_private(package, data)
            return
        source = [f"{mirror}/{release.chart}"] if mirror else [release.chart, "--repo", release.repository]
        deadline = self._ctx.deadline(PULL_SECONDS, f"fetching the chart {package.name}")
        # half a package of a run that was killed would be taken for the right one ever after
        with tempfile.TemporaryDirectory(dir=package.parent) as folder:
            self._run(["pull", *source, "--version", release.version, "-d", folder], deadline)
            pulled = Path(folder) / package.name
            if not pulled.exists():
                raise GpuctlError(f"helm pull left no {package.name}", where=folder)
            pulled.replace(package)

    def render(self, release: Release, chart: Path) -> str:
        """The manifests that the chart makes of the values. GpuctlError when it refuses them."""
        deadline = self._ctx.deadline(RENDER_SECONDS, f"rendering {release.name}")
        version = self._ctx.spec.kubernetes.version
        command = ["template", release.name, str(chart), "-n", release.namespace, "-f", str(self._values(release))]
        return self._run([*command, "--kube-version", version], deadline)

    def apply(self, release: Release, chart: Path) -> None:
        """Install or upgrade; the objects are created but need not be ready."""
        deadline = self._ctx.deadline(APPLY_SECONDS, f"helm upgrade {release.name}")
        labels = f"{OWNER}={self._ctx.workspace.cluster_id}"
        command = ["upgrade", "--install", release.name, str(chart), "-n", release.namespace]
        options = ["-f", str(self._values(release)), "--labels", labels, "--history-max", str(HISTORY)]
        self._run([*command, *options, "--timeout", f"{int(APPLY_SECONDS)}s"], deadline)

    def uninstall(self, installed: Installed) -> None:
        deadline = self._ctx.deadline(APPLY_SECONDS, f"helm uninstall {installed.name}")
        self._run(["uninstall", installed.name, "-n", installed.namespace, "--ignore-not-found"], deadline)

    def recover(self, installed: Installed) -> None:
        """Forget the revision that a killed Helm left half-made: what it created carries its mark and is taken up."""
        self._ctx.kubernetes.delete(installed.record)

    def _values(self, release: Release) -> Path:
        path = self._root / f"{release.name}.values.yaml"
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, release.values_yaml())
        return path

    def _run(self, arguments: Sequence[str], deadline: Deadline) -> str:
        """Standard output. An interrupt is forwarded once; Helm then records the release as failed, not pending."""
        tool = shutil.which("helm")
        if tool is None:
            raise GpuctlError(
                "helm is not on PATH", where=os.environ.get("PATH", ""), next=f"install Helm {NEEDS} or later"
            )
        what = f"helm {' '.join(arguments[:2])}"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
        for kind in ("CACHE", "CONFIG", "DATA"):
            environment[f"HELM_{kind}_HOME"] = str(self._root / kind.lower())
        environment["KUBECONFIG"] = str(self._ctx.workspace.kubeconfig)
        process = children.popen(
            [tool, *arguments], cwd=self._root.parent, environment=environment, stderr=subprocess.PIPE
        )
        with children.recorded(self._ctx.workspace, process.pid, what) as interrupt:
            out, err = children.finish(process, deadline, interrupt)
        self._ctx.say("log", f"{what}: exit {process.returncode}\n{err.strip()}", target="helm")
        if process.returncode == 0:
            return out
        if deadline.expired:
            raise DeadlineExceeded(f"{what}: not done within {deadline.seconds:.0f} s", next="run the command again")
        raise GpuctlError(f"{what} failed", cause=_cause(err or out), next=_advice(err))


def _digest_of(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()


def _cause(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if not line.startswith(("WARNING", "level="))]
    return "\n".join(lines[-8:]).removeprefix("Error: ")


def _advice(text: str) -> str:
    if "don't meet the specifications of the schema" in text:
        return "the chart does not know these values: is its version one that gpuctl supports?"
    if "requires kubeVersion" in text:
        return "another version of the chart, or of Kubernetes: gpuctl validate says which are known to fit"
    if "invalid ownership metadata" in text:
        return "the named object belongs to somebody else: remove it, or give it up to this release"
    return "the run's log has all of it; then run the same command again"


def _parsed(secret: Mapping[str, Any]) -> Installed:
    metadata = secret["metadata"]
    name = f"{metadata['namespace']}/{metadata['labels']['name']}"
    try:
        body = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
        chart = body["chart"]["metadata"]
        marks = chart.get("annotations") or {}
        return Installed(
            body["name"],
            body["namespace"],
            int(body["version"]),
            str(body["info"]["status"]),
            str(chart["name"]),
            str(chart["version"]),
            body.get("config") or {},
            str(body.get("manifest", "")),  # left out when the chart made nothing
            dict(metadata["labels"]),
            str(chart.get("appVersion", "")),
            str(marks.get(BUNDLE_MARK, "")),
            marks.get(KEEP_MARK) == "true",
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise GpuctlError(
            f"the Helm release {name} has a record that cannot be read", where=str(metadata["name"]), cause=str(error)
        ) from error
