"""GitOps: what Fleet shall install is committed to the operator's repository, and Fleet follows it.

What somebody changed or reverted there is not fought: it is said, and left until ``gpuctl gitops push``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from gpuctl.context import Context
from gpuctl.phases.base import Action, Change
from gpuctl.phases.manage import bundles
from gpuctl.phases.manage import fleet as live
from gpuctl.phases.manage.bundles import Proposal
from gpuctl.phases.steps import Step
from gpuctl.render import fleet
from gpuctl.render.charts import Release
from gpuctl.run.errors import GpuctlError
from gpuctl.run.secrets import read_secret
from gpuctl.spec.resolved import GitOps
from gpuctl.systems.helm import OWNER, Installed

PHASE = "manage"
SECRET = "gpuctl-git"
SECRETS = f"/api/v1/namespaces/{live.NAMESPACE}/secrets"
REPOS = f"{live.API}/namespaces/{live.NAMESPACE}/gitrepos"
GONE_SECONDS = 300.0


def plan(ctx: Context) -> list[Step]:
    """Credentials, a commit with what changed, the GitRepo, and Fleet in sync with it."""
    seen = live.observe(ctx)
    if ctx.spec.gitops is None:
        return _removal(ctx, seen)
    return steps(ctx, seen, ctx.helm.installed(), fleet.releases(ctx.spec), tuple(fleet.BUNDLES))


def steps(
    ctx: Context,
    seen: live.Seen,
    installed: Mapping[str, Installed],
    names: Mapping[str, Release],
    among: Collection[str],
) -> list[Step]:
    """As ``plan``, for these releases by bundle, and a commit that touches only ``among`` these bundles."""
    gitops = bundles.gitops_of(ctx.spec)
    if seen.repo and (seen.repo["metadata"].get("labels") or {}).get(OWNER) != ctx.workspace.cluster_id:
        raise GpuctlError(
            f"there is a GitRepo {gitops.name} that was not made by gpuctl",
            where=f"namespace {live.NAMESPACE}, repository {seen.repo['spec'].get('repo')}",
            next=f"remove or rename it: kubectl -n {live.NAMESPACE} get gitrepo {gitops.name} -o yaml",
        )
    bundles.refuse_two_owners(ctx, installed, names)
    files = {name: made for name, made in bundles.wanted(ctx).items() if name in names}
    proposal = bundles.propose(ctx, files, among=among)
    refuse(ctx, seen, installed, proposal, names)
    for name, commit in sorted(proposal.theirs.items()):
        ctx.say(
            "warning",
            f"bundle {name} is not as the spec has it since commit {commit}; it is left so:"
            " gpuctl gitops push shows the difference and puts the spec's version back",
            phase=PHASE,
        )
    pushed = [push_step(ctx, proposal)] if proposal.changes else []
    if not files and _nothing(ctx, gitops, proposal.tree or proposal.head):
        return [*pushed, *_idle(ctx, gitops, seen, installed)]
    made = [*_credentials(ctx, gitops), *pushed, *_repository(ctx, gitops, seen)]
    bringing = [gitops.bundle_name(name) for name in names if name not in proposal.theirs]
    if not made and not (found := live.problems(seen, gitops, proposal.head)):
        return []
    if not made:
        change = Change(f"gitrepo/{gitops.name}", "update", f"comes into sync: {found[0]}")
        made.append(Step(change, lambda: None))
    return [*made[:-1], Step(made[-1].change, _then(made[-1].run, lambda: _sync(ctx, gitops, bringing)))]


def push(ctx: Context) -> list[Step]:
    """The repository exactly as the spec has it, also where others changed it; then Fleet in sync, if it follows."""
    gitops, names = bundles.gitops_of(ctx.spec), fleet.releases(ctx.spec)
    seen, installed = live.observe(ctx), ctx.helm.installed()
    bundles.refuse_two_owners(ctx, installed, names)
    proposal = bundles.propose(ctx, bundles.wanted(ctx), insist=True)
    refuse(ctx, seen, installed, proposal, names)
    if not proposal.changes:
        ctx.git.remember(proposal.head)
        return []
    step = push_step(ctx, proposal)
    if seen.repo is None:
        return [step]
    if _nothing(ctx, gitops, proposal.tree):
        return [step, *_idle(ctx, gitops, seen, installed)]
    return [Step(step.change, _then(step.run, lambda: _sync(ctx, gitops)))]


def refuse(
    ctx: Context,
    seen: live.Seen,
    installed: Mapping[str, Installed],
    proposal: Proposal,
    names: Mapping[str, Release],
) -> None:
    """GpuctlError for everything that this commit must not do."""
    bundles.refuse_collisions(ctx, seen, proposal.head, names)
    bundles.refuse_orphans(ctx, installed, proposal.changes)
    bundles.refuse_data_loss(ctx, installed, proposal.changes)


def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


def _sync(ctx: Context, gitops: GitOps, names: Collection[str] = ()) -> None:
    live.await_sync(ctx, PHASE, gitops, tuple(names))
    ctx.say("target", "in sync with the repository", phase=PHASE, target=f"gitrepo/{gitops.name}")


def push_step(ctx: Context, proposal: Proposal) -> Step:
    """The one commit."""
    gitops = bundles.gitops_of(ctx.spec)
    target, removed = f"git/{gitops.branch}", [n for n, word in proposal.changes.items() if word == "removed"]
    kept = [name for name in removed if fleet.BUNDLES[name].keep]
    gone = [name for name in removed if name not in kept]
    price = _price(gone)
    words = proposal.words + (f"; what {', '.join(kept)} installed stays" if kept else "")

    def run() -> None:
        commit = ctx.git.push(proposal.head, proposal.tree, proposal.message)
        ctx.say("target", f"pushed {commit[:10]}: {proposal.words}", phase=PHASE, target=target)

    return Step(Change(target, "update", words, after=proposal.difference, disruption=price), run)


# --- what Fleet is given


def _credentials(ctx: Context, gitops: GitOps) -> list[Step]:
    """The Secret that the GitRepo names; its values are never shown."""
    known, path = gitops.credentials, f"{SECRETS}/{SECRET}"
    if known is None or not (known.password or known.ssh_key):
        return []
    data: dict[str, str] = {}
    if known.password:
        kind = "kubernetes.io/basic-auth"
        data = {"username": known.username or "git", "password": read_secret(known.password, ctx.redactor)}
    if known.ssh_key:
        kind = "kubernetes.io/ssh-auth"
        data = {"ssh-privatekey": read_secret(known.ssh_key, ctx.redactor) + "\n"}
        if known.known_hosts:
            data["known_hosts"] = _read(known.known_hosts)
    item = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": live.NAMESPACE, "labels": {OWNER: ctx.workspace.cluster_id}},
        "type": kind,
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in data.items()},
    }
    word = ctx.kubernetes.drift(item, live.NAMESPACE)
    if not word:
        return []
    target = f"secret/{SECRET}"

    def run() -> None:
        live.await_fleet(ctx, PHASE)
        ctx.kubernetes.apply(path, item)
        ctx.say("target", "written", phase=PHASE, target=target)

    action: Action = "create" if word == "missing" else "update"
    return [Step(Change(target, action, "credentials of the Git repository, for Fleet"), run)]


def repository(ctx: Context, gitops: GitOps) -> dict[str, Any]:
    """The GitRepo."""
    known = gitops.credentials
    spec: dict[str, Any] = {
        "repo": gitops.repo,
        "branch": gitops.branch,
        "paths": [gitops.path],
        "pollingInterval": f"{gitops.polling}s",
        "correctDrift": {"enabled": True},
    }
    if known and (known.password or known.ssh_key):
        spec["clientSecretName"] = SECRET
    if gitops.ca:
        spec["caBundle"] = base64.b64encode(_read(gitops.ca).encode()).decode()
    metadata = {"name": gitops.name, "namespace": live.NAMESPACE, "labels": {OWNER: ctx.workspace.cluster_id}}
    return {"apiVersion": "fleet.cattle.io/v1alpha1", "kind": "GitRepo", "metadata": metadata, "spec": spec}


def _repository(ctx: Context, gitops: GitOps, seen: live.Seen) -> list[Step]:
    item = repository(ctx, gitops)
    word = ctx.kubernetes.drift(item, live.NAMESPACE) if seen.installed else "missing"
    if not word:
        return []
    target = f"gitrepo/{gitops.name}"

    def run() -> None:
        live.await_fleet(ctx, PHASE)
        ctx.kubernetes.apply(f"{REPOS}/{gitops.name}", item)
        ctx.say("target", f"follows {gitops.repo}", phase=PHASE, target=target)

    action: Action = "create" if word == "missing" else "update"
    return [Step(Change(target, action, f"{gitops.repo}, branch {gitops.branch}, {gitops.path}"), run)]


def _nothing(ctx: Context, gitops: GitOps, tree: str) -> bool:
    """Whether a commit, or its tree, has nothing below the path. Fleet then stalls ("no resource found at the following
    paths to deploy") and lets no bundle go, so that the GitRepo itself has to.
    """
    return not (tree and ctx.git.files(tree, gitops.path))


def _idle(ctx: Context, gitops: GitOps, seen: live.Seen, installed: Mapping[str, Installed]) -> list[Step]:
    """No GitRepo while there is nothing that it could follow."""
    if seen.repo is None:
        return []
    brought = seen.ours(gitops.name)
    words, price = f"nothing is left below {gitops.path} that it could follow", _price(_leaving(installed, brought))
    change = Change(f"gitrepo/{gitops.name}", "remove", words, disruption=price)
    return [Step(change, lambda: _give_up(ctx, gitops.name, brought))]


def let_go(ctx: Context, bundle: str) -> None:
    """Until Fleet has given up a bundle that is no longer in the repository."""
    gitops = bundles.gitops_of(ctx.spec)
    if _nothing(ctx, gitops, ctx.git.fetch()):
        brought = live.observe(ctx).ours(gitops.name)
        _leaving(ctx.helm.installed(), brought)
        _give_up(ctx, gitops.name, brought)
    else:
        _await_gone(ctx, gitops.name, [bundle])


def _leaving(installed: Mapping[str, Installed], brought: Collection[str]) -> list[str]:
    """The releases that Fleet uninstalls with these bundles. GpuctlError when data would go with one."""
    gone = [have for have in installed.values() if have.bundle in brought and not have.kept]
    for have in gone:
        if lost := bundles.holding(have.manifest):
            raise GpuctlError(
                "removing the GitRepo would delete data",
                where=", ".join(sorted(lost)),
                cause=f"Fleet would uninstall the release {have.name} of namespace {have.namespace}",
                next="copy the data, then uninstall that release yourself",
            )
    return sorted(have.name for have in gone)


def _price(gone: Collection[str]) -> str:
    return f"Fleet uninstalls {', '.join(gone)}" if gone else ""


def _give_up(ctx: Context, name: str, brought: Collection[str]) -> None:
    """The GitRepo goes, with the bundles that it brought and its credentials."""
    ctx.kubernetes.delete(f"{REPOS}/{name}")
    _await_gone(ctx, name, brought)
    ctx.kubernetes.delete(f"{SECRETS}/{SECRET}")
    ctx.say("target", "removed", phase=PHASE, target=f"gitrepo/{name}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise GpuctlError(f"{path} cannot be read: {error.strerror}", where=path) from error


# --- when the spec wants no GitOps any more


def _removal(ctx: Context, seen: live.Seen) -> list[Step]:
    """The GitRepo goes when nothing hangs on it that gpuctl would have to take over."""
    repo = seen.repo
    if repo is None or (repo["metadata"].get("labels") or {}).get(OWNER) != ctx.workspace.cluster_id:
        return []
    name = str(repo["metadata"]["name"])
    brought = seen.ours(name)
    installed = ctx.helm.installed()
    for have in installed.values():
        if have.bundle not in brought:
            continue
        short = next((short for short in fleet.BUNDLES if have.bundle.endswith(f"-{short}")), "")
        if short and not fleet.BUNDLES[short].only_fleet and fleet.BUNDLES[short].release(ctx.spec):
            raise GpuctlError(
                f"the release {have.name} still belongs to Fleet, and the spec has no management.gitops any more",
                where=f"namespace {have.namespace}, bundle {have.bundle}",
                next=f"put gitops back with bundles: [], gpuctl gitops adopt {short}, then remove it",
            )
    price = _price(_leaving(installed, brought))
    change = Change(f"gitrepo/{name}", "remove", str(repo["spec"].get("repo")), disruption=price)
    return [Step(change, lambda: _give_up(ctx, name, brought))]


def _await_gone(ctx: Context, repo: str, names: Collection[str]) -> None:
    """Until Fleet has removed these bundles."""
    deadline = ctx.deadline(GONE_SECONDS, "waiting for Fleet to remove what is no longer wanted")
    for _ in deadline.ticks(1.0):
        left = sorted(live.observe(ctx).bundles.keys() & set(names))
        if not left:
            return
        ctx.say("progress", f"Fleet removes {', '.join(left)}", phase=PHASE, target=f"gitrepo/{repo}")
    deadline.check(
        where=f"namespace {live.NAMESPACE}",
        cause="\n".join([f"left: {', '.join(left)}", *live.controllers(ctx)]),
        next=f"kubectl -n {live.NAMESPACE} get bundles",
    )
