"""Every bundle of the spec is there, and everything that bundles install is in the cluster as it should be."""

from __future__ import annotations

from gpuctl.phases.manage import fleet
from gpuctl.render.fleet import releases
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged, with_gitops
from gpuctl.verify.facts import Facts

LIMIT = f"all Ready; {', '.join(fleet.COUNTS)}: 0"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    seen = facts.followed.seen
    assert spec.gitops is not None
    if seen.repo is None and not releases(spec):
        return Measurement("skipped", "nothing to measure", LIMIT, "the spec gives Fleet no bundles")
    if seen.repo is None:
        return judged({"GitRepo": "there is none, so there are no bundles"}, "none", LIMIT, next="gpuctl apply")
    brought = seen.ours(spec.gitops.name)
    names = {spec.gitops.bundle_name(name): name for name in releases(spec)}
    problems = {name: "not in the repository, or not brought by Fleet" for name in names if name not in brought}
    if wrong := fleet.applied(seen.repo, brought.values()):
        problems[f"GitRepo {spec.gitops.name}"] = "; ".join(wrong)
    ready = sum(fleet.ready(bundle) for bundle in brought.values())
    return judged(problems, f"{ready} of {len(brought)} bundles Ready", LIMIT, next="gpuctl apply")


CHECK = Check("MGT-04", "management", "what Fleet installs is as committed", ("gitops",), judge, applies=with_gitops)
