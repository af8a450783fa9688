"""A volume of every class comes soon, and what one pod writes another reads."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

SECONDS = 60.0
LIMIT = f"same SHA-256, <= {SECONDS:.0f} s"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, slowest = {}, 0.0
    for name, volume in facts.tried.items():
        if isinstance(volume, GpuctlError):
            problems[name] = volume.what + (f" ({volume.cause.splitlines()[-1]})" if volume.cause else "")
            continue
        slowest = max(slowest, volume.seconds)
        if not volume.written or volume.written != volume.read:
            problems[name] = f"written {volume.written[:12] or 'nothing'}, read {volume.read[:12] or 'nothing'}"
        elif volume.seconds > SECONDS:
            problems[name] = f"{volume.seconds:.0f} s"
    good = sorted(name for name in facts.tried if name not in problems)
    measured = f"{', '.join(good) or 'none'} in {slowest:.1f} s" if slowest else "none usable"
    return judged(problems, measured, LIMIT, next="kubectl get pv,storageclass; gpuctl manage")


CHECK = Check("CLU-15", "cluster", "volumes of every class hold what is written to them", ("volumes",), judge)
