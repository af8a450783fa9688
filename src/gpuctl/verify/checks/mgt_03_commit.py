"""Fleet stands where the branch stands: an idle gitjob does not say so, only the remote's commit shows it."""

from __future__ import annotations

from gpuctl.phases.manage import fleet
from gpuctl.render.fleet import releases
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged, with_gitops
from gpuctl.verify.facts import Facts

LIMIT = "the commit of the remote's branch, polled and accepted"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    seen, head = facts.followed.seen, facts.followed.head
    assert spec.gitops is not None
    if isinstance(head, GpuctlError):
        reason = f"{head.what}{f' ({head.cause.splitlines()[-1]})' if head.cause else ''}"
        return Measurement("unknown", "the remote was not reached", LIMIT, reason, head.what, head.next)
    name = f"GitRepo {spec.gitops.name}"
    if seen.repo is None and not releases(spec):
        return Measurement("skipped", "nothing to measure", LIMIT, "the spec gives Fleet no bundles")
    if seen.repo is None:
        there = "it is not there" if seen.installed else "the cluster has no Fleet"
        return judged({name: there}, "none", LIMIT, next="gpuctl apply")
    behind = fleet.following(seen.repo, head)
    commit = str((seen.repo.get("status") or {}).get("commit") or "none")[:10]
    problems = {name: "; ".join([*behind, *facts.followed.controllers])} if behind else {}
    return judged(problems, f"{commit} of branch {spec.gitops.branch}", LIMIT, next="gpuctl apply")


CHECK = Check("MGT-03", "management", "Fleet follows the repository", ("gitops",), judge, applies=with_gitops)
