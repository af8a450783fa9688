"""The scripts of the stress pods, run by a real shell on this machine, with tools that print the samples."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError
from gpuctl.verify.stress import COPY_TESTS, gather, tools
from tests.unit.verify.test_checks import SPEC

OUTPUTS = Path(__file__).parent / "outputs"
TOOLS = {
    "nvidia-smi": f"""case "$*" in
"topo -m") printf '\\tGPU0\\tGPU1\\tCPU Affinity\\nGPU0\\t X \\tNV12\\t0-15\\nGPU1\\tNV12\\t X \\t0-15\\n' ;;
*pcie.link.gen*) cat {OUTPUTS}/links.txt ;;
*clocks_event_reasons*) echo "GPU-a, Not Active, Not Active, Not Active, Not Active" ;;
*) exit 9 ;;
esac""",
    "nvbandwidth": f"sleep 0.3; cat {OUTPUTS}/nvbandwidth.txt",
    "all_reduce_perf": f'[ "$CUDA_VISIBLE_DEVICES" = 0,1 ] && cat {OUTPUTS}/all_reduce.txt',
    "nv-hostengine": "exit 0",
    "dcgmi": f"cat {OUTPUTS}/dcgm4.txt; exit 226",
}


class Here:
    """In place of a pod: this machine, with a folder of tools."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    def exec(self, _namespace: str, _pod: str, command: Sequence[str], *, deadline: Deadline) -> str:
        done = subprocess.run(
            list(command), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=deadline.left,
        )  # fmt: skip
        if done.returncode:
            raise GpuctlError(f"exit {done.returncode}", cause=done.stdout)
        return done.stdout


def pod(folder: Path, **changed: str) -> Any:
    """A stress pod with these tools; "" takes one away."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, script in {**TOOLS, **changed}.items():
        if script:
            (bin_folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (bin_folder / name).chmod(0o755)
    ctx: Any = SimpleNamespace(
        kubernetes=Here(bin_folder),
        say=lambda *_args, **_data: None,
        deadline=Deadline.after,
        stop=SimpleNamespace(is_set=lambda: False),
    )
    return gather._Pod(ctx, "namespace", SPEC.node("wk-gpu1"), str(folder))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(gather, "LOOK_EVERY", 0.1)
    yield
    # the sampler goes with its pod: here it is told
    if (group := tmp_path / "slowdowns.group").exists():
        os.killpg(int(group.read_text()), signal.SIGKILL)


def test_everything_that_the_tools_say_is_read(tmp_path: Path) -> None:
    found = pod(tmp_path).stress()
    assert found.pairs == {(0, 1): "NV12"}
    assert found.copies[COPY_TESTS[0]] == (24.61, 20.4)
    assert found.links == {"GPU-a": tools.Link(4, 16), "GPU-b": tools.Link(2, 16)}
    assert found.runs == (gather.Run((0, 1), True, tools.Reduction(199.81, 0)),)
    assert [d.status for d in found.diagnoses] == ["pass", "pass", "pass", "fail", "skip"]
    assert found.throttling.begun == {"GPU-a": 0}


def test_a_missing_tool_is_named_and_leaves_the_rest(tmp_path: Path) -> None:
    found = pod(tmp_path, nvbandwidth="", dcgmi="").stress()
    assert isinstance(found.copies, GpuctlError)
    assert found.copies.what == "the stress_image has no nvbandwidth"
    assert isinstance(found.diagnoses, GpuctlError)
    assert isinstance(found.links, GpuctlError)
    assert found.runs[0].result


def test_a_hang_is_ended_and_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "NCCL_SECONDS", 2.0)
    hanging = pod(tmp_path, all_reduce_perf=f"echo $$ >{tmp_path}/hangs; sleep 60; true")
    (run,) = hanging._runs({(0, 1): "NV12"})
    assert (run.done, run.result) == (False, None)
    process = int((tmp_path / "hangs").read_text())
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(process, 0)
            time.sleep(0.05)
