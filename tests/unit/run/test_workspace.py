from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import Workspace, write_private


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.of(tmp_path / "cluster.yaml", "homelab", "pve.example")
    made.create()
    return made


def test_everything_is_private_and_ignored_by_git(workspace: Workspace) -> None:
    workspace.secret("server-token")
    for path in workspace.root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert (workspace.root.parent / ".gitignore").read_text() == "*\n"


def test_a_generated_secret_stays_the_same(workspace: Workspace) -> None:
    assert workspace.secret("a") == workspace.secret("a") != workspace.secret("b")


def test_the_second_run_is_told_who_holds_the_lock(workspace: Workspace) -> None:
    with workspace.lock("gpuctl apply"), pytest.raises(GpuctlError) as caught, workspace.lock("gpuctl destroy"):
        pass
    assert caught.value.exit_code == Exit.LOCKED
    assert f'"pid": {os.getpid()}' in caught.value.cause
    assert "gpuctl apply" in caught.value.cause


def test_the_lock_of_a_killed_run_is_free(workspace: Workspace) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from gpuctl.run.workspace import Workspace\n"
        "with Workspace(Path(sys.argv[1])).lock('gpuctl apply'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(workspace.root)], timeout=30)
    with workspace.lock("gpuctl apply"):
        pass


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "new \udc80")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    with pytest.raises(GpuctlError):
        write_private(tmp_path / "file" / "below", "x")
