"""This machine beside its programs: gpuctl itself, room, file modes, SSH keys, the clock, the spec."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.doctor.base import Line, judged
from gpuctl.doctor.facts import Facts
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.units import counted

GIB = 1 << 30
# the Terraform provider, charts, logs and reports of one cluster; a full disk loses Terraform's state
LITTLE, ENOUGH = GIB // 2, 2 * GIB
# certificates made here are not yet valid, or API tokens of today already over, for a clock that is minutes off
AHEAD_WARN, AHEAD_FAIL = 5.0, 300.0


def judge(facts: Facts) -> Iterator[Line]:
    machine = facts.machine
    yield judged("gpuctl", [f"{name} is missing" for name in machine.missing], "complete", "install gpuctl anew")
    yield _spec(facts)
    yield _room(machine.folder, machine.free)
    loose = [f"{path} has mode {mode:04o}" for path, mode in machine.modes.items() if mode & 0o077]
    yield judged("file modes", loose, counted(len(machine.modes), "private file"), "chmod 600 FILE")
    yield _keys(machine.agent, machine.keys)
    yield _clock(facts)


def _spec(facts: Facts) -> Line:
    spec = facts.spec
    if spec is None:
        return Line("spec", "not looked at", "there is no cluster.yaml here", "gpuctl init; or gpuctl doctor FILE")
    if spec.errors:
        return Line("spec", "fail", f"{counted(spec.errors, 'error')} in {spec.file}", f"gpuctl validate {spec.file}")
    if spec.warnings:
        return Line(
            "spec", "warn", f"{counted(spec.warnings, 'warning')} in {spec.file}", f"gpuctl validate {spec.file}"
        )
    return Line("spec", "ok", f"{spec.file} is valid")


def _room(folder: str, free: int) -> Line:
    measured = f"{free / GIB:.1f} GiB free in {folder}"
    if free >= ENOUGH:
        return Line("disk", "ok", measured)
    return Line("disk", "fail" if free < LITTLE else "warn", measured, "free some: a full disk loses Terraform's state")


def _keys(agent: int, keys: tuple[str, ...]) -> Line:
    if agent:
        return Line("ssh keys", "ok", f"{counted(agent, 'key')} in the agent")
    if keys:
        return Line("ssh keys", "ok", ", ".join(keys))
    # the hosts' own key is made in the workspace
    return Line("ssh keys", "ok", "none; only --host-ssh needs one, gpuctl makes the cluster's key itself")


def _clock(facts: Facts) -> Line:
    if facts.api is None:
        return Line("clock", "not looked at", "nothing to compare with: there is no spec that names a server")
    greeting = facts.api.greeting
    if isinstance(greeting, GpuctlError):
        return Line("clock", "not looked at", greeting.what)
    if greeting.ahead is None:
        return Line("clock", "not looked at", "the server tells no time")
    measured = f"the server's clock is {greeting.ahead:+.1f} s off ours"
    hint = "timedatectl here and on the Proxmox host: one of them does not follow NTP"
    if abs(greeting.ahead) <= AHEAD_WARN:
        return Line("clock", "ok", measured)
    return Line("clock", "fail" if abs(greeting.ahead) > AHEAD_FAIL else "warn", measured, hint)
