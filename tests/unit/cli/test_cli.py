"""The command line from outside: start-up, exit codes, no tracebacks."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuctl.run.workspace import Workspace

ROOT = Path(__file__).parents[3]
HEAVY = ("kubernetes", "ansible_runner", "rich", "proxmoxer", "python_terraform", "requests", "pydantic", "jinja2")


def gpuctl(*arguments: str, cwd: Path = ROOT, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpuctl", *arguments]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['gpuctl', '--help']\n"
        "from gpuctl.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "apply" in done.stdout


def test_validate_loads_no_adapter() -> None:
    code = (
        "import sys\nsys.argv = ['gpuctl', 'validate', 'examples/homelab.yaml']\n"
        "from gpuctl.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('gpuctl.systems') or m == 'kubernetes'), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("validate", "nowhere.yaml"), "there is no nowhere.yaml"),
        (("apply", "nowhere.yaml", "--yes"), "there is no nowhere.yaml"),
        (("destroy", "nowhere.yaml", "--confirm", "x"), "there is no nowhere.yaml"),
        (("validate", "examples"), "cannot read examples"),
        (("verify", "examples/homelab.yaml", "-o", "xml"), "is not one of"),
        (("frobnicate",), "No such command"),
    ],
)
def test_wrong_use_is_one_clear_error_with_exit_code_2(arguments: tuple[str, ...], says: str) -> None:
    done = gpuctl(*arguments)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_a_wrong_spec_stops_every_command_before_anything_is_touched(tmp_path: Path) -> None:
    case = ROOT / "tests/unit/spec/cases/vip-is-a-node.yaml"
    spec = tmp_path / "cluster.yaml"
    spec.write_text(case.read_text(encoding="utf-8"), encoding="utf-8")
    for command in (["plan"], ["apply", "--yes"], ["destroy", "--confirm", "homelab"], ["verify"], ["status"]):
        done = gpuctl(*command, cwd=tmp_path)
        assert done.returncode == 2, command
        assert "of the API VIP" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.yaml"]


def test_a_missing_token_names_the_variable(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    spec.write_text(text, encoding="utf-8")
    done = gpuctl("plan", cwd=tmp_path)
    assert done.returncode == 4
    assert "PROXMOX_VE_API_TOKEN is not set" in done.stderr
    assert "next    export PROXMOX_VE_API_TOKEN=" in done.stderr


def test_a_ca_that_is_not_there_is_not_called_a_silent_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXMOX_VE_API_TOKEN", "root@pam!t=s")
    spec = tmp_path / "cluster.yaml"
    spec.write_text((ROOT / "examples/homelab.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    done = gpuctl("plan", str(spec))
    assert done.returncode == 4
    assert f"error: the CA {tmp_path / 'pve-ca.pem'} cannot be read" in done.stderr
    assert "pve-root-ca.pem" in done.stderr


def test_an_api_that_does_not_answer_is_one_error_with_the_place(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    text = text.replace("https://pve.example:8006", "https://127.0.0.1:9").replace("    ca: file:./pve-ca.pem\n", "")
    spec.write_text(text.replace("env:PROXMOX_VE_API_TOKEN", "file:./token"), encoding="utf-8")
    (tmp_path / "token").write_text("gpuctl@pve!lab=0123456789abcdef", encoding="utf-8")
    done = gpuctl("plan", cwd=tmp_path)
    assert done.returncode == 1
    assert "the Proxmox API does not answer" in done.stderr
    assert "https://127.0.0.1:9" in done.stderr
    (tmp_path / "token").write_text("not-a-token", encoding="utf-8")
    done = gpuctl("plan", cwd=tmp_path)
    assert done.returncode == 4
    assert "not-a-token" not in done.stderr
    assert "wrong shape" in done.stderr


def _log_folder_takes_no_file(workspace: Path) -> None:
    (workspace / "logs").rmdir()
    (workspace / "logs").symlink_to("/proc")  # a folder in which not even root makes files


def _become_folder(name: str) -> Callable[[Path], None]:
    def become(workspace: Path) -> None:
        (workspace / name).unlink(missing_ok=True)
        (workspace / name).mkdir()

    return become


@pytest.mark.parametrize(
    ("spoil", "full", "says"),
    [
        (_log_folder_takes_no_file, False, "cannot start the run's log: "),
        (_become_folder("lock"), False, "cannot lock the workspace: Is a directory"),
        (_become_folder("cluster-id"), False, "/cluster-id: Is a directory"),
        # a disk that takes no byte: every write fails
        (lambda _: None, True, "cannot lock the workspace: File too large"),
    ],
)
def test_a_disk_that_refuses_is_no_bug_of_ours(
    tmp_path: Path, spoil: Callable[[Path], None], full: bool, says: str
) -> None:
    text = (ROOT / "examples/homelab.yaml").read_text(encoding="utf-8")
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    workspace = Workspace.of(tmp_path / "cluster.yaml", "homelab", "pve.example")
    workspace.create()
    spoil(workspace.root)
    done = subprocess.run(
        [sys.executable, "-B", "-m", "gpuctl", "destroy", "--confirm", "homelab"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))) if full else None,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert "next    free some space" in done.stderr
    assert "internal error" not in done.stderr


def test_the_documented_spec_reference_is_the_generated_one() -> None:
    done = gpuctl("explain", "--markdown")
    assert done.returncode == 0
    assert done.stdout == (ROOT / "docs/spec.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_output_is_said_as_such(unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gpuctl", "validate", "examples/homelab.yaml"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.stderr.splitlines()[0] == "error: the output cannot be written: No space left on device"
    assert done.returncode == 1
