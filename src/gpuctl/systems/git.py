"""The operator's Git repository, through git itself: one clone in the workspace, without a working tree.

A commit is made of the remote's own tree with our files put in, so nothing outside our folders can change. Pushes are
never forced. Nothing is asked: credentials come from 0600 files, by GIT_ASKPASS or ssh's options.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gpuctl.run import children
from gpuctl.run.errors import DeadlineExceeded, Exit, GpuctlError
from gpuctl.run.secrets import read_secret
from gpuctl.run.workspace import write_private
from gpuctl.spec.resolved import GitOps

if TYPE_CHECKING:
    from gpuctl.context import Context

REMOTE_SECONDS, LOCAL_SECONDS = 120.0, 30.0
HEAD = "refs/remotes/origin/head"
# our last commit, to notice when the remote forgets it
PUSHED = "refs/gpuctl/pushed"
TRAILER = "Gpuctl-Cluster"
ASKPASS = """#!/bin/sh
case "$1" in Username*) cat {username} ;; Password*) cat {password} ;; *) exit 1 ;; esac
"""


@dataclass(frozen=True)
class Commit:
    """``ours``: made by gpuctl for this cluster."""

    id: str
    author: str
    subject: str
    ours: bool

    def __str__(self) -> str:
        return f"{self.id[:10]} {self.subject!r} by {self.author}"


class Diverged(GpuctlError):
    """Somebody pushed while we did."""


class Git:
    """The repository of ``spec.gitops``. Every method raises GpuctlError only."""

    def __init__(self, ctx: Context, gitops: GitOps) -> None:
        self._ctx, self._gitops = ctx, gitops
        self._root = ctx.workspace.root / "git"
        self._ready = False

    @classmethod
    def of(cls, ctx: Context) -> Git:
        assert ctx.spec.gitops
        return cls(ctx, ctx.spec.gitops)

    # --- what the remote has

    def remote_head(self) -> str:
        """The commit that the branch is at, "" when there is no such branch yet."""
        said = self._remote("ls-remote", self._gitops.repo, f"refs/heads/{self._gitops.branch}")
        return said.split()[0] if said.strip() else ""

    def fetch(self) -> str:
        """Bring the clone up to date; the commit that the branch is at, "" when there is no such branch yet."""
        head = self.remote_head()
        if not head:
            self._local("update-ref", "-d", HEAD)
            return ""
        refspec = f"+refs/heads/{self._gitops.branch}:{HEAD}"
        self._remote("fetch", "--no-tags", "--no-write-fetch-head", "--quiet", self._gitops.repo, refspec)
        return self._local("rev-parse", HEAD).strip()

    def files(self, commit: str, folder: str) -> dict[str, str]:
        """Object ids by path of the files below a folder."""
        found = {}
        for line in self._local("ls-tree", "-r", "-z", commit, "--", f"{folder}/").split("\0"):
            if line:
                about, _, path = line.partition("\t")
                found[path] = about.split()[2]
        return found

    def text(self, commit: str, path: str) -> str:
        """A file's content."""
        return self._local("cat-file", "blob", f"{commit}:{path}")

    def last(self, head: str, folder: str, *, ours: bool = False) -> Commit | None:
        """The newest commit that touched the folder; with ``ours`` the newest that gpuctl made."""
        only = [f"--grep=^{TRAILER}: {self._ctx.spec.name}$"] if ours else []
        form = f"--format=%H%x00%an%x00%s%x00%(trailers:key={TRAILER},valueonly,separator=%x2C)"
        said = self._local("log", "-1", *only, form, head, "--", folder).rstrip("\n")
        if not said:
            return None
        commit, author, subject, cluster = said.split("\0")
        return Commit(commit, author, subject, cluster.strip() == self._ctx.spec.name)

    def forgotten(self, head: str) -> str:
        """Our last commit, when the branch does not contain it any more; "" as it should be."""
        pushed = self._local("for-each-ref", "--format=%(objectname)", PUSHED).strip()
        if not pushed or not head:
            return pushed
        return "" if self._local("rev-list", "-1", pushed, "--not", head).strip() == "" else pushed

    # --- what we make of it

    def tree(self, head: str, folders: Iterable[str], files: Mapping[str, bytes]) -> str:
        """The tree of ``head`` ("": empty) where below these folders there are these files and no others."""
        gone = [path for folder in folders for path in (self.files(head, folder) if head else {}) if path not in files]
        self._prepare()
        # a folder of its own: another gpuctl may be planning at the same time, and a killed one leaves locks
        with TemporaryDirectory(dir=self._root) as scratch:
            index = Path(scratch, "index")
            entries = [f"0 {'0' * 40}\t{path}" for path in gone]
            entries += [f"100644 {blob}\t{path}" for path, blob in self._blobs(files, Path(scratch)).items()]
            self._local("read-tree", *([head] if head else ["--empty"]), index=index)
            listed = "".join(f"{line}\0" for line in entries)
            self._local("update-index", "--replace", "-z", "--index-info", index=index, stdin=listed)
            return self._local("write-tree", index=index).strip()

    def _blobs(self, files: Mapping[str, bytes], scratch: Path) -> dict[str, str]:
        names = [scratch / str(number) for number in range(len(files))]
        for name, data in zip(names, files.values(), strict=True):
            name.write_bytes(data)
        listed = "".join(f"{name}\n" for name in names)
        ids = self._local("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed).split()
        return dict(zip(files, ids, strict=True))

    def difference(self, head: str, tree: str, *paths: str) -> str:
        """A unified diff of these paths from the commit to the tree; ``head`` "" is empty."""
        before = head or self._local("hash-object", "-t", "tree", "-w", "--stdin").strip()
        return self._local("diff", "--no-color", "--no-ext-diff", "--no-renames", before, tree, "--", *paths)

    def push(self, head: str, tree: str, message: str) -> str:
        """Commit the tree onto ``head`` and push it; the new commit. Diverged when the branch has moved meanwhile."""
        parents = ["-p", head] if head else []
        text = f"{message}\n\n{TRAILER}: {self._ctx.spec.name}\n"
        commit = self._local("commit-tree", tree, *parents, "-F", "-", stdin=text).strip()
        target = f"refs/heads/{self._gitops.branch}"
        code, out, err = self._over_network("push", "--porcelain", self._gitops.repo, f"{commit}:{target}")
        if code:
            raise self._refused(out, err)
        self._local("update-ref", PUSHED, commit)
        return commit

    def remember(self, commit: str) -> None:
        """From now on this is the commit that the branch must contain."""
        self._local("update-ref", PUSHED, commit)

    def _refused(self, out: str, err: str) -> GpuctlError:
        """Why a push did not happen, by git's porcelain lines: ``!<tab>from:to<tab>[reason] (more)``."""
        line = next((line for line in out.splitlines() if line.startswith("!")), "")
        reason = line.split("\t")[-1] if line else ""
        where = f"{self._gitops.repo}, branch {self._gitops.branch}"
        if reason.startswith("[rejected]"):
            return Diverged(
                "the branch has moved since it was looked at; nothing was pushed",
                where=where,
                cause=f"somebody pushed meanwhile {reason.removeprefix('[rejected]').strip()}",
                next="run the same command again: it looks at what is there now",
            )
        if reason.startswith("[remote rejected]"):
            said = [line.removeprefix("remote: ").strip() for line in err.splitlines() if line.startswith("remote: ")]
            return GpuctlError(
                "the Git server refuses the push",
                where=where,
                cause="\n".join([reason.removeprefix("[remote rejected]").strip(" ()"), *filter(None, said)]),
                next="the server's rules for this branch decide: may this user push to it?",
            )
        return self._failed("push", err or out)

    # --- running it

    def _remote(self, *arguments: str) -> str:
        code, out, err = self._over_network(*arguments)
        if code:
            raise self._failed(arguments[0], err)
        return out

    def _over_network(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code and both streams; ends at an interrupt."""
        self._prepare()
        deadline = self._ctx.deadline(REMOTE_SECONDS, f"git {arguments[0]}")
        process = children.popen(
            self._command(arguments),
            cwd=self._ctx.workspace.root,
            environment=self._environment(),
            stderr=subprocess.PIPE,
        )
        with children.recorded(self._ctx.workspace, process.pid, f"git {arguments[0]}") as interrupt:
            out, err = children.finish(process, deadline, interrupt)
        self._ctx.say("log", f"git {arguments[0]}: exit {process.returncode}\n{err.strip()}", target="git")
        if process.returncode and deadline.expired:
            raise DeadlineExceeded(
                f"{deadline.what}: not done within {deadline.seconds:.0f} s",
                where=self._gitops.repo,
                next="does the server answer from here? then run the same command again",
            )
        return process.returncode, out, err

    def _local(self, *arguments: str, stdin: str = "", index: Path | None = None) -> str:
        self._prepare()
        environment = {**self._environment(), **({"GIT_INDEX_FILE": str(index)} if index else {})}
        try:
            done = subprocess.run(
                self._command(arguments),
                cwd=self._ctx.workspace.root,
                env=environment,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LOCAL_SECONDS,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise GpuctlError(
                f"git {arguments[0]} failed",
                where=str(self._root),
                cause=str(error.stderr or error).strip(),
                next=f"rm -r {self._root}: it is only a clone; then run the same command again",
            ) from error
        return done.stdout

    def _command(self, arguments: Sequence[str]) -> list[str]:
        tool = shutil.which("git")
        if tool is None:
            raise GpuctlError("git is not on PATH", next="install git 2.30 or later")
        return [tool, "--git-dir", str(self._root / "clone"), *arguments]

    def _environment(self) -> dict[str, str]:
        """Nothing of the operator's own configuration: it may ask, sign, rewrite addresses or filter content."""
        name = self._ctx.spec.name
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "SSH_ASKPASS"))}
        environment = {
            **kept,
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": str(self._root / "askpass"),
            **{f"GIT_{who}_NAME": "gpuctl" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": f"gpuctl@{name}.invalid" for who in ("AUTHOR", "COMMITTER")},
            # a server that sends nothing for half a minute is given up
            "GIT_HTTP_LOW_SPEED_LIMIT": "1",
            "GIT_HTTP_LOW_SPEED_TIME": "30",
        }
        if self._gitops.ca:
            environment["GIT_SSL_CAINFO"] = self._gitops.ca
        known = self._gitops.credentials
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=15", "IdentitiesOnly=yes"]
        if known and known.known_hosts:
            options.append(f"UserKnownHostsFile={known.known_hosts}")
        key = ["-i", str(self._secret("ssh-key"))] if known and known.ssh_key else []
        environment["GIT_SSH_COMMAND"] = " ".join(["ssh", *key, *(f"-o {option}" for option in options)])
        return environment

    def _secret(self, name: str) -> Path:
        return self._ctx.workspace.secrets / f"git-{name}"

    def _prepare(self) -> None:
        """Clone and credentials in place; once."""
        if self._ready:
            return
        self._ready = True
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = self._gitops.credentials
        values = {}
        if known and known.password:
            values = {"username": known.username or "git", "password": read_secret(known.password, self._ctx.redactor)}
        if known and known.ssh_key:
            values["ssh-key"] = read_secret(known.ssh_key, self._ctx.redactor)
        for name, value in values.items():
            write_private(self._secret(name), f"{value}\n")
        script = ASKPASS.format(username=self._secret("username"), password=self._secret("password"))
        write_private(self._root / "askpass", script)
        (self._root / "askpass").chmod(0o700)
        if not (self._root / "clone/HEAD").exists():
            self._local("init", "--quiet", "--bare", "--template=")

    def _failed(self, command: str, err: str) -> GpuctlError:
        return _failure(command, self._gitops.repo, err)


def _failure(command: str, where: str, err: str) -> GpuctlError:
    """git has no codes for these; its untranslated words are what there is."""
    said = "\n".join(line for line in err.strip().splitlines()[-6:] if line)
    for pattern, what, next, code in FAILURES:
        if re.search(pattern, err):
            return GpuctlError(what, where=where, cause=said, next=next, exit_code=code)
    return GpuctlError(f"git {command} failed", where=where, cause=said, next="the run's log has all of it")


FAILURES: tuple[tuple[str, str, str, Exit], ...] = (
    (
        r"Authentication failed|could not read (Username|Password)|Permission denied|error: 40[13]",
        "the Git server refuses the credentials",
        "check management.gitops.credentials: user, password or token, and what it may do",
        Exit.CREDENTIALS,
    ),
    (
        r"SSL certificate problem|server certificate verification failed",
        "the Git server's certificate is not trusted",
        "management.gitops.ca: file:PATH of the CA that signed it",
        Exit.FAILED,
    ),
    (
        r"Host key verification failed",
        "the Git server shows a host key that is not among the accepted ones",
        "compare it with the server's own, then add it to the known_hosts file of management.gitops.credentials",
        Exit.FAILED,
    ),
    (
        r"[Rr]epository .*not found|does not appear to be a git repository|error: 404",
        "there is no such Git repository",
        "check management.gitops.repo; gpuctl does not make repositories",
        Exit.FAILED,
    ),
    (
        r"Could not resolve host|Failed to connect|Connection (refused|timed out|reset)|Empty reply|unable to access"
        r"|Operation too slow|Could not read from remote",
        "the Git server does not answer",
        "is it up, and reachable from here? then run the same command again",
        Exit.FAILED,
    ),
)
