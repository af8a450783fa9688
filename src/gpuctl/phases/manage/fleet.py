"""Fleet as it is: our GitRepo, what became of its bundles, and whether all of it is in sync. Judging is pure."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuctl.context import Context
from gpuctl.render.fleet import BUNDLES
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import GitOps

API = "/apis/fleet.cattle.io/v1alpha1"
NAMESPACE, SYSTEM = "fleet-local", "cattle-fleet-system"
REPO_LABEL, COMMIT_LABEL = "fleet.cattle.io/repo-name", "fleet.cattle.io/commit"
COUNTS = ("errApplied", "waitApplied", "outOfSync", "modified", "notReady", "pending")
SYNC_SECONDS = 600.0
# Fleet tries again by itself: what it says must last before it counts as its last word
LAST_WORD_SECONDS = 60.0


@dataclass(frozen=True)
class Seen:
    """``repo``: our GitRepo; ``bundles``: every Bundle of the namespace by name. Raw objects; nothing without Fleet."""

    installed: bool
    repo: Mapping[str, Any] | None
    bundles: Mapping[str, Mapping[str, Any]]

    def ours(self, repo: str) -> dict[str, Mapping[str, Any]]:
        """The bundles that the GitRepo of this name brought."""
        return {name: item for name, item in self.bundles.items() if origin(item) == repo}


def origin(bundle: Mapping[str, Any]) -> str:
    """The GitRepo that a bundle comes from, "" for none."""
    return str((bundle["metadata"].get("labels") or {}).get(REPO_LABEL, ""))


def observe(ctx: Context) -> Seen:
    """What there is of Fleet in the cluster."""
    try:
        repos = ctx.kubernetes.list(f"{API}/namespaces/{NAMESPACE}/gitrepos")
        bundles = ctx.kubernetes.list(f"{API}/namespaces/{NAMESPACE}/bundles")
    except GpuctlError as error:
        if error.status == 404:
            return Seen(False, None, {})
        raise
    name = ctx.spec.gitops.name if ctx.spec.gitops else "gpuctl"
    ours = next((repo for repo in repos if repo["metadata"]["name"] == name), None)
    return Seen(True, ours, {str(bundle["metadata"]["name"]): bundle for bundle in bundles})


def conditions(item: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(c["type"]): c for c in (item.get("status") or {}).get("conditions") or ()}


def ready(item: Mapping[str, Any]) -> bool:
    """Whether it says so itself, of its newest spec."""
    seen = (item.get("status") or {}).get("observedGeneration") == item["metadata"].get("generation")
    return seen and str(conditions(item).get("Ready", {}).get("status")) == "True"


def following(repo: Mapping[str, Any], head: str) -> list[str]:
    """Why the GitRepo does not stand for this commit of the remote; [] when it does."""
    status = repo.get("status") or {}
    found = []
    for kind in ("GitPolling", "Accepted"):
        condition = conditions(repo).get(kind)
        if condition is None or condition["status"] != "True":
            found.append(f"{kind}: {(condition or {}).get('message') or 'not said yet'}")
    stalled = conditions(repo).get("Stalled")
    if stalled and stalled["status"] == "True":
        found.append(f"the gitjob is stalled: {stalled.get('message') or status.get('gitJobStatus')}")
    job = status.get("gitJobStatus") or "none"
    if status.get("commit") != head:
        looked = status.get("lastPollingTriggered") or "never"
        found.append(
            f"at commit {str(status.get('commit') or 'none')[:10]} instead of {head[:10] or 'none'}"
            f" (gitjob {job}, last looked {looked})"
        )
    elif job not in ("none", "Current"):
        # the commit may be noted before the job has made bundles of it
        found.append(f"the gitjob is {job}")
    if status.get("observedGeneration") != repo["metadata"].get("generation"):
        found.append("its newest spec is not seen yet")
    return list(dict.fromkeys(found))


def applied(repo: Mapping[str, Any], bundles: Iterable[Mapping[str, Any]], later: Collection[str] = ()) -> list[str]:
    """What of the GitRepo's bundles is not in the cluster as it should be; [] when all is.

    ``later``: bundles that may still be on their way; what is counted over all bundles says nothing then.
    """
    status = repo.get("status") or {}
    found, coming = [], False
    for bundle in sorted(bundles, key=lambda item: str(item["metadata"]["name"])):
        name, state = str(bundle["metadata"]["name"]), _state(bundle) or "pending"
        if ready(bundle):
            continue
        if name in later and state != "ErrApplied":
            coming = True
        else:
            said = conditions(bundle).get("Ready", {}).get("message") or "its newest spec is not seen yet"
            found.append(f"bundle {name}: {state}: {said}")
    if coming:
        return found
    summary = status.get("summary") or {}
    found += [f"{summary[name]} {name}" for name in COUNTS if summary.get(name)]
    done, wanted = status.get("readyClusters", 0), status.get("desiredReadyClusters", 0)
    if not wanted or done != wanted:
        found.append(f"{done} of {wanted} clusters ready")
    if not found and not ready(repo):
        found.append(f"not Ready: {conditions(repo).get('Ready', {}).get('message') or 'nothing said yet'}")
    return found


def problems(seen: Seen, gitops: GitOps, head: str) -> list[str]:
    """Everything that keeps the repository from being in the cluster, as far as this phase brings it there."""
    if seen.repo is None:
        return ["there is no GitRepo"]
    later = [gitops.bundle_name(name) for name, bundle in BUNDLES.items() if bundle.later]
    old = [name for name, item in seen.ours(gitops.name).items() if _commit(item) not in ("", head)]
    waiting = [f"bundle {name} is of an earlier commit" for name in sorted(old)]
    return following(seen.repo, head) or waiting or applied(seen.repo, seen.ours(gitops.name).values(), later)


def _commit(bundle: Mapping[str, Any]) -> str:
    return str((bundle["metadata"].get("labels") or {}).get(COMMIT_LABEL, ""))


def _state(bundle: Mapping[str, Any]) -> str:
    return str(((bundle.get("status") or {}).get("display") or {}).get("state") or "")


def controllers(ctx: Context) -> list[str]:
    """Fleet's own Deployments that do not run."""
    found = []
    for item in ctx.kubernetes.list(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments"):
        wanted = item["spec"].get("replicas", 1)
        ready = (item.get("status") or {}).get("readyReplicas", 0)
        if not wanted or ready < wanted:
            found.append(f"Deployment {SYSTEM}/{item['metadata']['name']}: {ready} of {max(wanted, 1)} pods ready")
    return found


def await_fleet(ctx: Context, phase: str) -> None:
    """Until the Fleet that Rancher brings knows its kinds and its cluster."""
    deadline = ctx.deadline(SYNC_SECONDS, "waiting for Rancher to bring Fleet")
    for _ in deadline.ticks(2.0):
        try:
            ctx.kubernetes.get(f"{API}/namespaces/{NAMESPACE}/clusters/local")
        except GpuctlError as error:
            if error.status != 404:
                raise
        else:
            return
        ctx.say("progress", "Rancher brings Fleet", phase=phase, target="fleet")
    deadline.check(where=f"namespace {SYSTEM}", next=f"kubectl -n {SYSTEM} get pods,events; is Rancher up?")


def await_sync(ctx: Context, phase: str, gitops: GitOps, wanted: Sequence[str] = ()) -> None:
    """Until the remote's head is in the cluster, with the bundles of these names. GpuctlError says what keeps it."""
    deadline = ctx.deadline(SYNC_SECONDS, "waiting for Fleet to take the repository over")
    name, seen, found = gitops.name, observe(ctx), [""]
    head, since, before = ctx.git.remote_head(), time.monotonic(), [""]
    for _ in deadline.ticks(2.0):
        seen = observe(ctx)
        found = problems(seen, gitops, head)
        found += [f"bundle {bundle}: not there yet" for bundle in wanted if bundle not in seen.ours(name)]
        if not found:
            return
        if found != before:
            before, since = found, time.monotonic()
            ctx.say("progress", f"Fleet: {found[0]}", phase=phase, target=f"gitrepo/{name}")
        elif time.monotonic() - since > LAST_WORD_SECONDS and (_failed(seen, name) or controllers(ctx)):
            break
        # somebody may push meanwhile
        head = ctx.git.remote_head()
    raise GpuctlError(
        "Fleet does not bring the repository into the cluster",
        where=f"GitRepo {NAMESPACE}/{name}",
        cause="\n".join([*found, *controllers(ctx)]),
        next=f"kubectl -n {NAMESPACE} describe gitrepo {name}; then run the same command again",
    )


def _failed(seen: Seen, name: str) -> bool:
    """Whether it says that something failed, instead of nothing or that it is at work."""
    stalled = conditions(seen.repo).get("Stalled") if seen.repo else None
    states = {_state(bundle) for bundle in seen.ours(name).values()}
    return bool(stalled and stalled["status"] == "True") or "ErrApplied" in states
