"""The password that Rancher was installed with, which lies in a Secret, opens nothing any more."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, failed, passed, with_rancher
from gpuctl.verify.facts import Facts

LIMIT = "refused"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    works = facts.managed.first_password
    if isinstance(works, GpuctlError):
        return Measurement("unknown", "not tried", LIMIT, works.what, cause=works.what, next=works.next)
    if works:
        reason = "admin still logs in with the bootstrap password (Secret cattle-system/bootstrap-secret)"
        return failed("accepted", LIMIT, reason, "gpuctl manage rotates it")
    return passed("refused", LIMIT)


CHECK = Check("SEC-03", "security", "the bootstrap password is rotated", ("management",), judge, applies=with_rancher)
