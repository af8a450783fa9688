"""The API without credentials."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

LIMIT = "401 or 403"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    answers = facts.cluster.anonymous
    problems = {path: f"answers {status}" for path, status in answers.items() if status not in (401, 403)}
    measured = f"{', '.join(map(str, sorted(set(answers.values()))))} on {len(answers)} paths"
    return judged(problems, measured, LIMIT, next="is anonymous-auth on in /etc/rancher/k3s/config.yaml?")


CHECK = Check("SEC-02", "security", "the API tells nothing to somebody without credentials", ("kubernetes",), judge)
