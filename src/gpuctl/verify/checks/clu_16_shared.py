"""A volume on NFS is read on another node than the one that wrote it."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, failed, passed
from gpuctl.verify.facts import Facts

LIMIT = "same SHA-256 on another node"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    assert spec.storage.nfs  # it applies then only
    name = spec.storage.nfs.storage_class
    volume = facts.tried[name]
    way_out = f"showmount and the export of {spec.storage.nfs.server}:{spec.storage.nfs.path}; gpuctl manage"
    if isinstance(volume, GpuctlError):
        return Measurement("unknown", "not read", LIMIT, volume.what, cause=f"no volume of {name} can be used")
    measured = f"{volume.writer} -> {volume.reader}"
    if volume.reader == volume.writer:
        reason = f"only {volume.writer} runs pods, so nothing was read elsewhere"
        return Measurement("unknown", measured, LIMIT, reason, cause="one node runs pods")
    if not volume.written or volume.read != volume.written:
        return failed(measured, LIMIT, f"{name}: {volume.reader} reads something else than was written", way_out)
    return passed(measured, LIMIT)


def _applies(spec: Resolved) -> str:
    if not spec.storage.nfs:
        return "the spec has no NFS"
    return "" if len(spec.nodes) > 1 else "the spec has one node only"


CHECK = Check("CLU-16", "cluster", "a shared volume moves between nodes", ("volumes",), judge, applies=_applies)
