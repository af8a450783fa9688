"""What the repository should hold, what it holds, and what must not happen on the way from one to the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from gpuctl.context import Context
from gpuctl.phases import workloads
from gpuctl.phases.manage import fleet as live
from gpuctl.render import fleet
from gpuctl.render.charts import Release
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.resolved import GitOps, Resolved
from gpuctl.systems.git import Commit
from gpuctl.systems.helm import GIVEN, OWNER, Installed


@dataclass(frozen=True)
class Proposal:
    """One commit on ``head``. ``changes``: new, changed or removed, by bundle; {}: nothing to commit.

    ``theirs``: bundles that somebody else changed since our last commit, left as they are, and in which commit.
    """

    head: str
    tree: str
    changes: Mapping[str, str]
    difference: str
    theirs: Mapping[str, Commit]

    @property
    def words(self) -> str:
        return ", ".join(f"{name} {word}" for name, word in sorted(self.changes.items()))

    @property
    def message(self) -> str:
        return f"gpuctl: {self.words}"


def gitops_of(spec: Resolved) -> GitOps:
    """The block; a usage error when the spec has none."""
    if spec.gitops is None:
        raise GpuctlError(
            "the spec has no management.gitops",
            where=spec.file,
            next="gpuctl explain management.gitops",
            exit_code=Exit.USAGE,
        )
    return spec.gitops


def wanted(ctx: Context) -> dict[str, dict[str, bytes]]:
    """Files by path in the repository, by bundle."""
    path, made = gitops_of(ctx.spec).path, {}
    for name, release in fleet.releases(ctx.spec).items():
        chart = ctx.helm.chart_files(release) if fleet.vendored(ctx.spec, release) else {}
        files = fleet.files(ctx.spec, name, release, chart)
        made[name] = {f"{path}/{name}/{file}": data for file, data in files.items()}
    return made


def propose(
    ctx: Context,
    files: Mapping[str, Mapping[str, bytes]],
    *,
    among: Collection[str] = tuple(fleet.BUNDLES),
    insist: bool = False,
) -> Proposal:
    """The commit that puts these files, by bundle, in place of what our folders hold now; only ``among`` these bundles.

    What others changed since our last commit is left alone while the spec has not changed since; with ``insist`` it is
    replaced. GpuctlError when both changed, or when the branch has forgotten our last commit.
    """
    git, gitops = ctx.git, gitops_of(ctx.spec)
    head = git.fetch()
    if not insist and (lost := git.forgotten(head)):
        raise GpuctlError(
            "the repository's history was rewritten: gpuctl's last commit is not in it any more",
            where=f"{gitops.repo}, branch {gitops.branch}, commit {lost[:10]}",
            cause="somebody pushed by force, or another repository is there now",
            next="gpuctl gitops push shows what would be written there, and goes on from it",
        )
    folders = {name: f"{gitops.path}/{name}" for name in among}
    flat = {path: data for bundle in files.values() for path, data in bundle.items()}
    full = git.tree(head, folders.values(), flat)

    def below(commit: str, name: str) -> dict[str, str]:
        return git.files(commit, folders[name]) if commit else {}

    pending = [name for name in folders if below(head, name) != below(full, name)]
    theirs: dict[str, Commit] = {}
    base = git.last(head, gitops.path, ours=True) if head and pending and not insist else None
    for name in pending if head and not insist else ():
        ours = below(base.id, name) if base else {}
        if below(head, name) == ours:
            continue
        commit = git.last(head, folders[name])
        assert commit
        if below(full, name) != ours:
            raise GpuctlError(
                f"the bundle {name} was changed in the repository by others, and is to be changed by the spec",
                where=f"{gitops.repo}, {folders[name]}",
                cause=f"commit {commit}",
                next="gpuctl gitops push shows the difference and, if you agree, puts the spec's version there",
            )
        theirs[name] = commit
    changing = [name for name in pending if name not in theirs]
    if not changing:
        return Proposal(head, "", {}, "", theirs)
    kept = {path: data for name in changing for path, data in files.get(name, {}).items()}
    tree = git.tree(head, [folders[name] for name in changing], kept)
    words = {name: "removed" if name not in files else "changed" if below(head, name) else "new" for name in changing}
    return Proposal(head, tree, words, _difference(ctx, head, tree, [folders[name] for name in changing]), theirs)


def _difference(ctx: Context, head: str, tree: str, folders: list[str]) -> str:
    """In full but for the charts' own files, which are counted."""
    git = ctx.git
    shown = git.difference(head, tree, *folders, *(f":(exclude){folder}/chart" for folder in folders))
    for folder in folders:
        before = git.files(head, f"{folder}/chart") if head else {}
        after = git.files(tree, f"{folder}/chart")
        differing = sum(before.get(path) != after.get(path) for path in before.keys() | after.keys())
        if differing:
            shown += f"{folder}/chart: {differing} files differ\n"
    return shown


# --- what is refused


def refuse_collisions(ctx: Context, seen: live.Seen, head: str, names: Mapping[str, Release]) -> None:
    """GpuctlError when another bundle has, or would get, the name of one of ours."""
    gitops = gitops_of(ctx.spec)
    ours = {gitops.bundle_name(name): name for name in names}
    for name, bundle in seen.bundles.items():
        if name in ours and live.origin(bundle) != gitops.name:
            raise _collision(name, f"it comes from {live.origin(bundle) or 'somebody by hand'}")
    folders = {f"{gitops.path}/{name}" for name in fleet.BUNDLES}
    for path in ctx.git.files(head, gitops.path) if head else ():
        folder, _, file = path.rpartition("/")
        name = f"{gitops.name}-{folder.replace('/', '-')}"
        if file == "fleet.yaml" and folder not in folders and name in ours:
            raise _collision(name, f"{path} in the repository would be called so, too")


def _collision(name: str, cause: str) -> GpuctlError:
    return GpuctlError(
        f"there is another bundle of the name {name}",
        where=f"namespace {live.NAMESPACE}",
        cause=f"{cause}; Fleet would replace one by the other, and remove what it installed",
        next="rename the other one, or choose another management.gitops.path",
    )


def refuse_two_owners(ctx: Context, installed: Mapping[str, Installed], names: Mapping[str, Release]) -> None:
    """GpuctlError when a release that Fleet is to install has an owner already."""
    gitops = gitops_of(ctx.spec)
    for name, release in names.items():
        have = installed.get(f"{release.namespace}/{release.name}")
        bundle = gitops.bundle_name(name)
        if have is None or have.bundle == bundle:
            continue
        if not have.bundle and OWNER not in have.labels and have.labels.get(GIVEN) == bundle:
            continue
        ours = have.labels.get(OWNER) == ctx.workspace.cluster_id and not have.bundle
        raise GpuctlError(
            f"the release {release.name} would get two owners",
            where=f"namespace {release.namespace}, chart {have.chart} {have.version}",
            cause="gpuctl installed it by Helm, and the spec gives it to Fleet"
            if ours
            else f"Fleet's bundle {have.bundle} installed it"
            if have.bundle
            else "it was not made by gpuctl",
            next=f"gpuctl gitops adopt {name}"
            if ours
            else f"helm uninstall {release.name} -n {release.namespace} (its workloads stop), then run this again",
        )


def refuse_orphans(ctx: Context, installed: Mapping[str, Installed], changes: Mapping[str, str]) -> None:
    """GpuctlError when Fleet would give up a release that gpuctl then finds ownerless."""
    gitops = gitops_of(ctx.spec)
    for name, word in changes.items():
        release = fleet.BUNDLES[name].release(ctx.spec)
        if word != "removed" or release is None or fleet.BUNDLES[name].only_fleet:
            continue
        have = installed.get(f"{release.namespace}/{release.name}")
        if have and have.bundle == gitops.bundle_name(name):
            raise GpuctlError(
                f"the release {release.name} still belongs to Fleet",
                where=f"namespace {release.namespace}, bundle {have.bundle}",
                cause=f"the spec does not list {name} in management.gitops.bundles any more",
                next=f"gpuctl gitops adopt {name} gives it back to gpuctl without stopping it",
            )


def refuse_data_loss(ctx: Context, installed: Mapping[str, Installed], changes: Mapping[str, str]) -> None:
    """GpuctlError when what Fleet would do after this commit deletes a volume claim, or a namespace with any."""
    gitops = gitops_of(ctx.spec)
    names = fleet.releases(ctx.spec)
    by_bundle = {have.bundle: have for have in installed.values() if have.bundle}
    for name, word in changes.items():
        have = by_bundle.get(gitops.bundle_name(name))
        if have is None:
            continue
        held, release = holding(have.manifest), names.get(name)
        moved = release is None or (release.name, release.namespace) != (have.name, have.namespace)
        if word == "removed" or moved:
            lost = {} if have.kept else held
        elif held and release:
            lost = {key: held[key] for key in held.keys() - holding(_rendered(ctx, release)).keys()}
        else:
            lost = {}
        if lost:
            raise GpuctlError(
                f"this change of the bundle {name} would delete data",
                where=", ".join(sorted(lost)),
                cause=f"Fleet would {'uninstall' if word == 'removed' or moved else 'upgrade'} the release {have.name}"
                f" of namespace {have.namespace} and delete these objects with it",
                next="copy the data first, then annotate the objects with helm.sh/resource-policy=keep in the chart,"
                " or uninstall the release yourself",
            )


def _rendered(ctx: Context, release: Release) -> str:
    return ctx.helm.render(release, ctx.helm.chart(release)[0])


def holding(manifest: str) -> dict[str, Mapping[str, Any]]:
    """The objects of a manifest with which data goes, unless Helm is told to keep them."""
    found: dict[str, Mapping[str, Any]] = {}
    for item in workloads.objects(manifest):
        kept = (item["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == "keep"
        if item["kind"] in ("PersistentVolumeClaim", "Namespace") and not kept:
            found[f"{item['kind']} {item['metadata']['name']}"] = item
    return found


def description(ctx: Context, head: str, name: str) -> dict[str, Any]:
    """fleet.yaml of a bundle as the commit has it; {} when there is none."""
    path = f"{gitops_of(ctx.spec).path}/{name}/fleet.yaml"
    if not head or path not in ctx.git.files(head, f"{gitops_of(ctx.spec).path}/{name}"):
        return {}
    read = yaml.safe_load(ctx.git.text(head, path))
    return read if isinstance(read, dict) else {}
