"""Clock skew, from the fastest of several exchanges."""

from __future__ import annotations

from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_hosts
from gpuctl.verify.facts import Facts

LIMIT = "<= 0.5 s"
SECONDS = 0.5


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, unsure = {}, {}
    worst = 0.0
    for name, host in facts.reached.items():
        offset, error = host.clock.offset, host.clock.error
        worst = max(worst, abs(offset))
        if abs(offset) - error > SECONDS:
            problems[name] = f"{offset:+.2f} s"
        elif abs(offset) + error > SECONDS:
            unsure[name] = f"{offset:+.2f} s, but the host answers too slowly to know better than {error:.2f} s"
    measured = f"{worst:.2f} s at worst"
    if unsure and not problems:
        reason = "; ".join(f"{name}: {what}" for name, what in unsure.items())
        return Measurement("unknown", measured, LIMIT, reason, next="gpuctl verify --only INF-07")
    return over_hosts(facts, problems, measured, LIMIT, next="timedatectl timesync-status on the host")


CHECK = Check("INF-07", "infra", "the clocks of the hosts agree with this machine", ("hosts",), judge)
