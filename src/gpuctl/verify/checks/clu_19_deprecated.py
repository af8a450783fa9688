"""Deprecated APIs that somebody asked for since the API servers started, from the servers' own metrics.

Those of the core group that no Kubernetes minor has ended (v1 Endpoints) are asked for by Kubernetes' own components:
they are counted, not failed.
"""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_some
from gpuctl.verify.facts import Facts

LIMIT = "none, but for the core group's without an end"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, silent, lasting = {}, {}, set()
    for server in spec.servers:
        found = facts.cluster.deprecated.get(server.name)
        if found is None or isinstance(found, GpuctlError):
            silent[server.name] = found.what if found else "not asked"
            continue
        for api, removed in found:
            if removed or "/" in api:
                problems[api] = f"gone in Kubernetes {removed}" if removed else "deprecated by its maker"
            else:
                lasting.add(api)
    measured = f"{len(problems)} deprecated APIs asked for"
    if lasting:
        measured += f", beside {', '.join(sorted(lasting))}"
    hint = "move who asks to the newer version (the audit log names it); a server counts anew after its next restart"
    return over_some(problems, silent, measured, LIMIT, next=hint)


CHECK = Check("CLU-19", "cluster", "nobody uses an API that is going away", ("kubernetes",), judge)
