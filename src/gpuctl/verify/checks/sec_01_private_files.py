"""Modes of private files, here and on the hosts."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_hosts
from gpuctl.verify.facts import Facts

LIMIT = "mode 0600 at most"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems = {path: f"mode {mode:04o}" for path, mode in facts.modes.items() if mode & 0o077}
    count = len(facts.modes)
    for name, host in facts.reached.items():
        count += len(host.modes)
        if not host.modes:
            problems[name] = "has no K3s files to look at"
        problems.update({f"{name}:{path}": f"mode {mode:04o}" for path, mode in host.modes.items() if mode & 0o077})
    return over_hosts(facts, problems, f"{count} files, {len(problems)} open", LIMIT, next="chmod 600 FILE")


CHECK = Check("SEC-01", "security", "kubeconfigs, tokens and keys are readable by their owner only", ("hosts",), judge)
