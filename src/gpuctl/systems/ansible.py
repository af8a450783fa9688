"""Playbooks by ansible-runner over the workspace's inventory; plain ansible-playbook takes the same files.

Settings follow what was measured for many hosts: few fat tasks, pipelining, one connection a host, no ssh compression.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuctl.run import children
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, GpuctlError
from gpuctl.run.workspace import Workspace, data_folder, write_private

if TYPE_CHECKING:
    from gpuctl.context import Context

INVENTORY = "inventory.json"
MAX_FORKS = 64


@dataclass(frozen=True)
class TaskResult:
    """What a task said on a host. ``outcome``: ok, failed, unreachable, skipped, started (no result yet)."""

    host: str
    task: str
    outcome: str
    result: Mapping[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))


class Ansible:
    """Runs the playbooks of ``templates/ansible`` with the workspace's key and known_hosts."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._workspace: Workspace = ctx.workspace

    @classmethod
    def of(cls, ctx: Context) -> Ansible:
        return cls(ctx)

    @property
    def inventory_file(self) -> Path:
        return self._workspace.ansible / INVENTORY

    def prepare(self, inventory: Mapping[str, Any]) -> None:
        """Write inventory and configuration; no secret is in them, tokens are looked up in the workspace."""
        write_private(self.inventory_file, json.dumps(inventory, indent=1, sort_keys=True) + "\n")
        write_private(self._workspace.ansible / "ansible.cfg", self._configuration())

    def _configuration(self) -> str:
        templates = data_folder("templates") / "ansible"
        options = shlex.join(self._ctx.ssh.options())  # ansible.cfg has no escapes for %
        return "\n".join(
            [
                "# Written by gpuctl. By hand: ANSIBLE_CONFIG=<this file> ansible-playbook -i inventory.json ...",
                "[defaults]",
                f"library = {templates / 'library'}",
                f"module_utils = {templates / 'module_utils'}",
                f"forks = {MAX_FORKS}",
                "gathering = explicit",
                "interpreter_python = /usr/bin/python3",
                "host_key_checking = True",
                "retry_files_enabled = False",
                "nocows = True",
                "timeout = 20",
                f"local_tmp = {self._workspace.ansible / 'tmp'}",
                "[ssh_connection]",
                "pipelining = True",
                f"ssh_args = {options}",
                "",
            ]
        )

    def run(
        self,
        playbook: str,
        *,
        deadline: Deadline,
        check: bool = False,
        on_result: Callable[[TaskResult], None] | None = None,
    ) -> list[TaskResult]:
        """Run a playbook on the prepared inventory; every result, also failed ones. ``failure`` makes an error of them.

        Raises GpuctlError when Ansible itself fails or is interrupted. What runs on a host then goes on to its end;
        the modules hold a lock there, so that the next run waits for it.
        """
        from ansible_runner import run as start
        from ansible_runner.exceptions import AnsibleRunnerException

        found: list[TaskResult] = []
        with ExitStack() as until_end:
            pids: set[int] = set()

            def handle(event: dict[str, Any]) -> bool:
                pid = event.get("pid")
                if isinstance(pid, int) and not pids:
                    pids.add(pid)
                    until_end.enter_context(children.recorded(self._workspace, pid, "ansible-playbook"))
                if text := str(event.get("stdout") or "").strip():
                    self._ctx.say("log", text, target="ansible")
                result = _result(event)
                if result is not None:
                    if result.outcome != "started":
                        found.append(result)
                    if on_result is not None:
                        on_result(result)
                return False

            # a plan may run beside an apply
            artifacts = children.own_folder(self._workspace.ansible)
            # it holds every task's result a second time
            until_end.callback(shutil.rmtree, artifacts, ignore_errors=True)
            runner = start(
                private_data_dir=str(self._workspace.ansible),
                artifact_dir=str(artifacts),
                project_dir=str(data_folder("templates") / "ansible"),
                playbook=str(data_folder("templates") / "ansible" / playbook),
                inventory=str(self.inventory_file),
                cmdline="--check --diff" if check else "--diff",
                envvars=self._environment(),
                event_handler=handle,
                cancel_callback=lambda: deadline.stop.is_set() or deadline.expired,
                quiet=True,
                settings={"suppress_env_files": True, "idle_timeout": 0},
                suppress_env_files=True,
            )
            try:
                said = runner.stdout.read() if runner.rc else ""
            except AnsibleRunnerException as error:  # it ended before it said anything
                said = str(error)
        if deadline.stop.is_set():
            raise GpuctlError(f"{deadline.what}: interrupted")
        if deadline.expired:
            raise DeadlineExceeded(
                f"{deadline.what}: not done within {deadline.seconds:.0f} s",
                next="look at the run's log for the hosts that are not done; run the same command again to continue",
            )
        # 2 and 4 mean failed and unreachable hosts, and 2 also wrong usage: then nobody failed
        if runner.rc and not any(r.outcome in ("failed", "unreachable") for r in found):
            raise GpuctlError(
                f"ansible-playbook {playbook} failed (exit {runner.rc})",
                cause="\n".join(said.strip().splitlines()[-8:]),
                next="the run's log has all of it",
            )
        return found

    def _environment(self) -> dict[str, str]:
        return {
            "ANSIBLE_CONFIG": str(self._workspace.ansible / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{Path(sys.executable).parent}:{_path()}",
        }


def failure(results: Sequence[TaskResult]) -> GpuctlError | None:
    """The error that the failed results amount to, the first host's told in full; None when none failed."""
    failed = [r for r in results if r.outcome in ("failed", "unreachable")]
    if not failed:
        return None
    first = failed[0]
    said = first.result
    others = sorted({r.host for r in failed} - {first.host})
    if first.outcome == "unreachable":
        return GpuctlError(
            f"{first.host} does not answer on SSH" + _also(others),
            where=f"host {first.host}",
            cause=_last_line(str(said.get("msg", ""))),
            next="gpuctl status shows whether the VM runs; then run the same command again",
        )
    unit = f", {said['unit']}" if said.get("unit") else ""
    journal = [str(line) for line in said.get("journal", ())]
    cause = str(said.get("cause") or said.get("exception") or said.get("module_stderr") or "").strip()
    return GpuctlError(
        f"{first.host}: {said.get('msg', 'the task failed')}" + _also(others),
        where=f"host {first.host}{unit}",
        cause="\n".join([*cause.splitlines()[-8:], *journal]),
        next=str(said.get("next") or "look at the host's journal; then run the same command again"),
    )


def _also(others: Sequence[str]) -> str:
    return f" (also {', '.join(others[:5])}{' ...' if len(others) > 5 else ''})" if others else ""


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no word from it"


def _result(event: Mapping[str, Any]) -> TaskResult | None:
    kinds = {
        "runner_on_ok": "ok",
        "runner_on_failed": "failed",
        "runner_on_unreachable": "unreachable",
        "runner_on_skipped": "skipped",
        "runner_on_start": "started",
    }
    outcome = kinds.get(str(event.get("event")))
    if outcome is None:
        return None
    data = event["event_data"]
    if outcome == "failed" and data.get("ignore_errors"):
        outcome = "ok"
    return TaskResult(str(data.get("host", "")), str(data.get("task", "")), outcome, data.get("res") or {})


def _path() -> str:
    return os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
