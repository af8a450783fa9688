"""The git adapter against real repositories on disk: what it commits, what it leaves, and how refusals are told."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest

from gpuctl.context import Context
from gpuctl.phases.manage import bundles
from gpuctl.phases.manage.fleet import Seen
from gpuctl.render.fleet import releases
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import Workspace
from gpuctl.spec.load import load
from gpuctl.spec.resolved import GitCredentials, SecretRef
from gpuctl.systems.git import Diverged, _failure

SPEC = Path(__file__).parents[1] / "render/fleet/cluster.yaml"
BASE = "clusters/homelab"
FILES: dict[str, dict[str, bytes]] = {"tests": {f"{BASE}/tests/fleet.yaml": b"a: 1\n", f"{BASE}/tests/x/y": b"\xff\0"}}


class Remote:
    """A bare repository, and a clone of somebody else's."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.clone = folder / "remote.git", folder / "clone"
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare), cwd=folder)
        self.git("clone", "-q", str(self.bare), str(self.clone), cwd=folder)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        identity = ["-c", "user.name=alice", "-c", "user.email=alice@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=cwd or self.clone,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str], message: str) -> str:
        """By alice, pushed."""
        if self.git("ls-remote", str(self.bare), "refs/heads/main"):
            self.git("pull", "-q", "--rebase", "origin", "main")
        for name, text in files.items():
            path = self.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def read(self, path: str) -> str:
        return self.git("--git-dir", str(self.bare), "show", f"main:{path}")

    def all(self) -> list[str]:
        return self.git("--git-dir", str(self.bare), "ls-tree", "-r", "--name-only", "main").splitlines()


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path)


def context(remote: Remote, folder: Path, repo: str = "") -> Context:
    spec = load(SPEC).resolved
    assert spec
    assert spec.gitops
    spec = replace(spec, gitops=replace(spec.gitops, repo=repo or str(remote.bare)))
    workspace = Workspace(folder / "workspace")
    workspace.create()
    return Context(spec, workspace, lambda _: None, Redactor(), Flag())


def push(ctx: Context, files: Mapping[str, Mapping[str, bytes]], *, insist: bool = False) -> bundles.Proposal:
    proposal = bundles.propose(ctx, files, insist=insist)
    if proposal.changes:
        ctx.git.push(proposal.head, proposal.tree, proposal.message)
    return proposal


def test_the_first_push_makes_the_branch_and_the_second_has_nothing_to_say(remote: Remote, tmp_path: Path) -> None:
    ctx = context(remote, tmp_path)
    assert push(ctx, FILES).words == "tests new"
    assert remote.all() == [f"{BASE}/tests/fleet.yaml", f"{BASE}/tests/x/y"]
    assert push(ctx, FILES).changes == {}
    assert push(context(remote, tmp_path / "another"), FILES).changes == {}


def test_only_our_folders_change_in_one_commit_of_what_differs(remote: Remote, tmp_path: Path) -> None:
    other = {"README.md": "hello\n", f"{BASE}/own/fleet.yaml": "b: 1\n", ".gitattributes": "* text eol=crlf\n"}
    first = remote.commit(other, "start")
    ctx = context(remote, tmp_path)
    push(ctx, FILES)
    assert remote.git("--git-dir", str(remote.bare), "rev-list", "--count", f"{first}..main") == "1"
    changed = {
        "tests": {f"{BASE}/tests/fleet.yaml": b"a: 2\n"},
        "monitoring": {f"{BASE}/monitoring/fleet.yaml": b"c: 1\n"},
    }
    made = push(ctx, changed)
    assert made.changes == {"tests": "changed", "monitoring": "new"}
    assert "-a: 1\n+a: 2" in made.difference
    assert sorted(remote.all()) == sorted([*other, f"{BASE}/monitoring/fleet.yaml", f"{BASE}/tests/fleet.yaml"])
    assert remote.read(".gitattributes") == "* text eol=crlf"
    assert push(ctx, {}).changes == {"tests": "removed", "monitoring": "removed"}
    assert sorted(remote.all()) == sorted(other)


def test_a_chart_is_counted_not_shown(remote: Remote, tmp_path: Path) -> None:
    files = {"tests": {f"{BASE}/tests/fleet.yaml": b"a: 1\n", f"{BASE}/tests/chart/Chart.yaml": b"name: x\n"}}
    difference = bundles.propose(context(remote, tmp_path), files).difference
    assert "name: x" not in difference
    assert f"{BASE}/tests/chart: 1 files differ" in difference


def test_a_revert_is_left_and_named_until_push_insists(remote: Remote, tmp_path: Path) -> None:
    ctx = context(remote, tmp_path)
    push(ctx, FILES)
    newer = {"tests": {**FILES["tests"], f"{BASE}/tests/fleet.yaml": b"a: 2\n"}}
    push(ctx, newer)
    remote.git("pull", "-q", "origin", "main")
    remote.git("revert", "--no-edit", "HEAD")
    remote.git("push", "-q", "origin", "HEAD:main")
    left = push(ctx, newer)
    assert left.changes == {}
    assert left.theirs["tests"].author == "alice"
    assert left.theirs["tests"].subject.startswith("Revert")
    assert not left.theirs["tests"].ours
    assert remote.read(f"{BASE}/tests/fleet.yaml") == "a: 1"
    # the spec goes back, too: nothing differs any more
    assert push(ctx, FILES).theirs == {}
    assert push(ctx, newer, insist=True).changes == {"tests": "changed"}
    assert remote.read(f"{BASE}/tests/fleet.yaml") == "a: 2"
    assert push(ctx, newer).theirs == {}


def test_both_changed_is_refused_and_names_the_commit(remote: Remote, tmp_path: Path) -> None:
    ctx = context(remote, tmp_path)
    push(ctx, FILES)
    remote.commit({f"{BASE}/tests/fleet.yaml": "a: 7\n"}, "my own idea")
    with pytest.raises(GpuctlError) as caught:
        push(ctx, {"tests": {f"{BASE}/tests/fleet.yaml": b"a: 2\n"}})
    assert "'my own idea' by alice" in caught.value.cause


def test_what_lay_there_before_us_is_not_replaced_silently(remote: Remote, tmp_path: Path) -> None:
    remote.commit({f"{BASE}/tests/fleet.yaml": "z: 1\n"}, "by hand")
    ctx = context(remote, tmp_path)
    with pytest.raises(GpuctlError, match="changed in the repository by others"):
        push(ctx, FILES)
    assert push(ctx, FILES, insist=True).changes == {"tests": "changed"}


def test_somebody_pushes_meanwhile(remote: Remote, tmp_path: Path) -> None:
    remote.commit({"README.md": "1\n"}, "start")
    ctx = context(remote, tmp_path)
    proposal = bundles.propose(ctx, FILES)
    remote.commit({"README.md": "2\n"}, "meanwhile")
    with pytest.raises(Diverged):
        ctx.git.push(proposal.head, proposal.tree, proposal.message)
    assert remote.read("README.md") == "2"
    push(ctx, FILES)


def test_rewritten_history_is_noticed(remote: Remote, tmp_path: Path) -> None:
    start = remote.commit({"README.md": "1\n"}, "start")
    ctx = context(remote, tmp_path)
    push(ctx, FILES)
    remote.git("push", "-q", "--force", "origin", f"{start}:main")
    with pytest.raises(GpuctlError, match="history was rewritten"):
        push(ctx, FILES)
    assert push(ctx, FILES, insist=True).changes == {"tests": "new"}
    assert push(ctx, FILES).changes == {}


def test_the_servers_refusal_is_told_with_its_words(remote: Remote, tmp_path: Path) -> None:
    hook = remote.bare / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'main is protected' >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    with pytest.raises(GpuctlError) as caught:
        push(context(remote, tmp_path), FILES)
    assert "refuses the push" in caught.value.what
    assert "main is protected" in caught.value.cause


def test_no_such_repository(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(GpuctlError, match="no such Git repository"):
        context(remote, tmp_path, str(tmp_path / "nowhere.git")).git.fetch()


@pytest.mark.parametrize(
    ("said", "what", "code"),
    [
        ("fatal: unable to access 'http://x/': Failed to connect to x port 80", "does not answer", Exit.FAILED),
        ("fatal: unable to access 'https://x/': SSL certificate problem: self-signed", "not trusted", Exit.FAILED),
        ("fatal: Authentication failed for 'https://x/'", "refuses the credentials", Exit.CREDENTIALS),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "refuses", Exit.CREDENTIALS),
        ("fatal: repository 'https://x/' not found", "no such Git repository", Exit.FAILED),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "host key", Exit.FAILED),
        ("git@x: Permission denied (publickey).\nfatal: Could not read from", "refuses the cred", Exit.CREDENTIALS),
        ("fatal: something else", "git fetch failed", Exit.FAILED),
    ],
)
def test_what_git_says_becomes_one_clear_error(said: str, what: str, code: Exit) -> None:
    error = _failure("fetch", "https://x/", said)
    assert what in error.what
    assert error.exit_code == code


def test_credentials_lie_in_private_files_and_are_redacted(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_PASSWORD", "correct-horse")
    ctx = context(remote, tmp_path)
    assert ctx.spec.gitops
    known = GitCredentials("me", SecretRef("env", "GIT_PASSWORD"), None, None)
    ctx = replace(ctx, spec=replace(ctx.spec, gitops=replace(ctx.spec.gitops, credentials=known)))
    ctx.git.fetch()
    assert ctx.redactor.clean("correct-horse") == "[redacted]"
    asked = str(ctx.workspace.root / "git/askpass")
    said = [subprocess.run([asked, f"{what} for 'x':"], capture_output=True, text=True).stdout.strip() for what in
            ("Username", "Password")]  # fmt: skip
    assert said == ["me", "correct-horse"]
    holding = [
        path for path in ctx.workspace.root.rglob("*") if path.is_file() and b"correct-horse" in path.read_bytes()
    ]
    assert [(path.name, path.stat().st_mode & 0o777) for path in holding] == [("git-password", 0o600)]


def test_a_folder_beside_ours_that_fleet_would_call_alike_is_refused(remote: Remote, tmp_path: Path) -> None:
    head = remote.commit({f"{BASE}/gpu/operator/fleet.yaml": "a: 1\n", f"{BASE}/own/fleet.yaml": "a: 1\n"}, "mine")
    ctx = context(remote, tmp_path)
    ctx.git.fetch()
    names = releases(ctx.spec)
    with pytest.raises(GpuctlError, match="another bundle of the name gpuctl-clusters-homelab-gpu-operator"):
        bundles.refuse_collisions(ctx, Seen(True, None, {}), head, names)
    bundles.refuse_collisions(ctx, Seen(True, None, {}), head, {"tests": names["tests"]})
