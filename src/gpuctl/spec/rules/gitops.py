"""The repository that Fleet follows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule
from gpuctl.spec.rules.security import SECRET_IN_URL

AT = ("management", "gitops")
PATH = re.compile(r"[a-z0-9]+([-/][a-z0-9]+)*")
SSH = re.compile(r"(ssh://|[\w.-]+@[\w.-]+:)\S+")
# Helm's limit for the names of releases, which Fleet applies to bundles
NAME = 53


def _rancher(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    if resolved.gitops and not resolved.rancher:
        yield AT, "Rancher brings Fleet, and there is no management.rancher", "add it, or remove gitops"


def _names(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    if not (gitops := resolved.gitops):
        return
    if not PATH.fullmatch(gitops.path):
        wrong = f"{gitops.path!r} makes bundle names that Fleet changes"
        yield (*AT, "path"), wrong, "use lower-case letters, digits, single dashes and slashes: clusters/homelab"
        return
    for bundle in gitops.bundles:
        if len(name := gitops.bundle_name(bundle)) > NAME:
            wrong = f"the bundle's name {name} has {len(name)} characters; Fleet would cut it and add a hash"
            yield (*AT, "path"), wrong, f"a path that is {len(name) - NAME} shorter"
            return


def _credentials(resolved: Resolved, cluster: Cluster) -> Iterator[Broken]:
    if not (gitops := resolved.gitops):
        return
    known, repo = gitops.credentials, gitops.repo
    given = cluster.management.gitops
    assert given
    if SECRET_IN_URL.search(given.repo):
        return  # SEC-R5 says so
    if SSH.fullmatch(repo):
        if not known or not known.ssh_key or not known.known_hosts:
            yield (
                AT,
                "a repository over ssh needs a key and the host keys to accept",
                ("credentials: {ssh_key: file:./key, known_hosts: file:./known_hosts}"),
            )
    elif not re.fullmatch(r"https?://[^\s/]+/\S+", repo):
        yield (*AT, "repo"), "the repository is reached by https or ssh", "https://git.example/platform/clusters.git"
    elif known and (known.ssh_key or (known.username is None) != (known.password is None)):
        yield (
            (*AT, "credentials"),
            "a repository over https takes a user name and a password or token",
            "credentials: {username: gpuctl, password: env:GIT_PASSWORD}",
        )


def _open(resolved: Resolved, _: Cluster) -> Iterator[Broken]:
    gitops = resolved.gitops
    if gitops and gitops.repo.startswith("http://") and gitops.credentials and not resolved.site.mirrors.git:
        yield (*AT, "repo"), "the password would travel in the clear", "use https:// or ssh"


RULES = (
    Rule(
        "GIT-01", "error", "Fleet is there", "gpuctl never installs a second Fleet beside Rancher's.", _rancher,
        "Fleet documentation: Rancher installs its own; two managers fight",
    ),
    Rule(
        "GIT-02", "error", "Bundles keep their names", "A hashed name is found by nobody.", _names,
        "Fleet documentation, naming of bundles; Helm: 53 characters",
    ),
    Rule(
        "GIT-03", "error", "Credentials fit the repository", "Git would ask, and nobody answers.", _credentials,
        "fleet.rancher.io/gitrepo-add, private repositories: ssh-auth with known_hosts, or basic-auth",
    ),
    Rule(
        "GIT-04", "error", "No password in the clear", "Whoever listens could change the cluster.", _open,
        "RFC 7617, 1: without TLS, user and password pass over the network as cleartext",
    ),
)  # fmt: skip
