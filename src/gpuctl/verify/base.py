"""What a check is: a claim of the spec, judged purely from facts that were gathered once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.facts import Facts

Outcome = Literal["pass", "fail", "skipped", "unknown"]
Group = Literal["infra", "cluster", "gpu", "management", "applications", "security"]
Need = Literal[
    "proxmox",
    "terraform",
    "hosts",
    "kubernetes",
    "intruders",
    "gpus",
    "paths",
    "starts",
    "stress",
    "hub",
    "notebooks",
    "gitops",
    "services",
    "storage",
    "volumes",
    "management",
]
# sources that look through pods of their own; --quick does without them and all others that start pods
IN_PODS: frozenset[Need] = frozenset(("intruders", "paths", "starts", "volumes"))
SLOW: frozenset[Need] = IN_PODS | {"notebooks", "stress"}
GROUPS: tuple[Group, ...] = ("infra", "cluster", "gpu", "management", "applications", "security")


@dataclass(frozen=True)
class Measurement:
    """What was measured, against which limit. Only ``pass`` is a pass; the reason of anything else is never empty.

    ``cause`` names what it is a consequence of (``host/wk-gpu2 unreachable``): results with the same cause are folded.
    """

    outcome: Outcome
    measured: str
    limit: str = ""
    reason: str = ""
    cause: str = ""
    next: str = ""


@dataclass(frozen=True)
class Check:
    """``id`` as in the catalogue (INF-01); ``claim`` in words; ``needs``: which facts; ``source``: of the limit.

    ``applies`` says why a spec has nothing to check here, "" when it has.
    """

    id: str
    group: Group
    claim: str
    needs: tuple[Need, ...]
    judge: Callable[[Resolved, Facts], Measurement]
    source: str = "gpuctl"
    applies: Callable[[Resolved], str] = lambda _: ""

    @property
    def quick(self) -> bool:
        """Whether it starts no pods."""
        return not SLOW & set(self.needs)


@dataclass(frozen=True)
class Result:
    """A judged check."""

    check: Check
    measurement: Measurement
    seconds: float = field(default=0.0)


def passed(measured: str, limit: str) -> Measurement:
    return Measurement("pass", measured, limit)


def failed(measured: str, limit: str, reason: str, next: str = "") -> Measurement:
    return Measurement("fail", measured, limit, reason, next=next)


def judged(problems: Mapping[str, str], measured: str, limit: str, *, next: str = "") -> Measurement:
    """A pass when there are no problems; else a fail that names them, by target."""
    if not problems:
        return passed(measured, limit)
    return failed(measured, limit, "; ".join(f"{target}: {problem}" for target, problem in problems.items()), next)


def over_hosts(
    facts: Facts,
    problems: Mapping[str, str],
    measured: str,
    limit: str,
    *,
    next: str = "",
    among: Collection[str] | None = None,
    unreached: Mapping[str, GpuctlError] | None = None,
) -> Measurement:
    """As ``judged``, for something that every host must have: a host that was not reached leaves it unknown.

    ``among``: the names of the hosts it is about, when not about all. ``unreached``: by another source.
    """
    verdict = judged(problems, measured, limit, next=next)
    missing = facts.unreached if unreached is None else unreached
    unreached = {name: error for name, error in missing.items() if among is None or name in among}
    if verdict.outcome != "pass" or not unreached:
        return verdict
    return Measurement(
        "unknown",
        f"{measured}, {len(unreached)} not reached",
        limit,
        "; ".join(f"{name}: {error.what}" for name, error in unreached.items()),
        cause=f"hosts {', '.join(unreached)} unreachable",
    )


def over_some(
    problems: Mapping[str, str], silent: Mapping[str, str], measured: str, limit: str, *, next: str = ""
) -> Measurement:
    """As ``judged``, but what is ``silent`` (why, by target) leaves it unknown when there is no problem elsewhere."""
    if problems or not silent:
        return judged(problems, measured, limit, next=next)
    reasons = dict.fromkeys(silent.values())
    why = "; ".join(f"{', '.join(t for t in silent if silent[t] == reason)}: {reason}" for reason in reasons)
    return Measurement("unknown", measured, limit, why, cause=why)


def with_gpus(spec: Resolved) -> str:
    """``applies`` of the checks about GPUs."""
    return "" if any(node.gpus for node in spec.nodes) else "the spec gives no node a GPU"


def with_gitops(spec: Resolved) -> str:
    """``applies`` of the checks about Fleet."""
    return "" if spec.gitops else "the spec has no management.gitops"


def with_rancher(spec: Resolved) -> str:
    """``applies`` of the checks about Rancher."""
    return "" if spec.rancher else "the spec has no management.rancher"


def with_hub(spec: Resolved) -> str:
    """``applies`` of the checks about notebooks."""
    return "" if spec.jupyterhub else "the spec has no jupyterhub"


def over_notebooks(
    facts: Facts,
    problems: Mapping[str, str],
    measured: str,
    limit: str,
    *,
    among: Collection[str] | None = None,
    next: str = "",
) -> Measurement:
    """As ``judged``, for something that every profile's notebook must do: one that could not start leaves it unknown.

    ``among``: the profiles it is about, when not about all.
    """
    verdict = judged(problems, measured, limit, next=next)
    chosen = {name: notebook for name, notebook in facts.spawned.items() if among is None or name in among}
    held = {name: notebook.held for name, notebook in chosen.items() if notebook.held}
    failed_ = {name: notebook.error for name, notebook in chosen.items() if notebook.error and name not in problems}
    if verdict.outcome != "pass" or not (held or failed_):
        return verdict
    reason = "; ".join(f"{name}: {words}" for name, words in {**held, **failed_}.items())
    cause = broken(failed_) if failed_ else f"notebooks {', '.join(held)} wait"
    return Measurement("unknown", measured, limit, reason, cause, next)


def broken(profiles: Iterable[str]) -> str:
    """The cause of whatever cannot be measured in the notebooks of these profiles."""
    return f"notebooks {', '.join(profiles)} do not work"


def over_cards(facts: Facts, problems: Mapping[str, str], measured: str, limit: str, *, next: str = "") -> Measurement:
    """As ``over_hosts``, for something that every card must have."""
    silent = {name: host for name, host in facts.cards.hosts.items() if isinstance(host, GpuctlError)}
    mute = {name: GpuctlError(host.error) for name, host in facts.card_hosts.items() if host.error}
    return over_hosts(facts, problems, measured, limit, next=next, unreached={**silent, **mute})
