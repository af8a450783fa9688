"""kill -9 in every phase, a host that dies while it joins, Ctrl-C: the same command goes on to the end."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from lab.shell import LabError
from tests.lab.conftest import ROOT, Lab


def test_kill_in_provision(small: Lab) -> None:
    code = small.interrupted("provision", "--yes", at="vm/", number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    small.gpuctl("provision", "--yes")
    assert "provision   = nothing to change" in small.gpuctl("plan").stdout


def test_ctrl_c_in_bootstrap_stops_cleanly(small: Lab) -> None:
    code = small.interrupted("bootstrap", "--yes", at="==> bootstrap", number=signal.SIGINT)
    assert code == 130


def test_a_connection_that_is_lost_stops_cleanly(small: Lab) -> None:
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *small.command("bootstrap", "--yes")], env={**small.environment(), "TERM": "xterm"},
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    seen = b""
    while b"==> bootstrap" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(120) == 129
    log = max((small.workspace / "logs").iterdir(), key=lambda path: path.stat().st_mtime).read_text(encoding="utf-8")
    assert "the output ends here: " in log
    assert "stopped by SIGHUP" in log


def test_kill_in_bootstrap(small: Lab) -> None:
    code = small.interrupted("bootstrap", "--yes", at="host/cp1  prepared", number=signal.SIGKILL)
    assert code == -signal.SIGKILL


def test_a_host_that_dies_while_it_joins_is_named(small: Lab) -> None:
    def kill_when_it_joins() -> None:
        for _ in range(600):
            try:
                if "k3s" in small.inside(9021, "pgrep -a k3s; true"):
                    small.call("kill", vmid=9021)
                    return
            except LabError:
                return
            time.sleep(0.2)

    killer = threading.Thread(target=kill_when_it_joins)
    killer.start()
    done = small.gpuctl("bootstrap", "--yes", code=None)
    killer.join(120)
    assert done.returncode == 1
    assert "wk1" in done.stderr
    assert "next" in done.stderr


def test_the_same_command_goes_on_after_all_that(small: Lab) -> None:
    assert small.proven in small.gpuctl("apply", "--yes").stdout


def test_a_restart_that_a_killed_run_owes_is_made_up_for(small: Lab) -> None:
    """A host keeps the list of files whose readers have not been restarted: a run that is killed leaves it behind."""
    small.inside(9011, "echo /etc/keepalived/keepalived.conf > /run/gpuctl.pending")
    assert "keepalived.service restarted" in small.plan("bootstrap", code=3)
    small.gpuctl("bootstrap", "--yes")
    small.plan("bootstrap", code=0)


def test_a_kubeconfig_that_the_cluster_does_not_take_any_more_is_fetched_anew(small: Lab) -> None:
    """Its certificate ends after a year; a cluster that was made anew has another CA."""
    path = small.workspace / "kubeconfig"
    good = path.read_text(encoding="utf-8")
    # of another CA: that of the emulated Proxmox server
    foreign = base64.b64encode((small.instance.root / "pve-ca.pem").read_bytes()).decode()
    for broken in (
        re.sub("client-key-data: .*", "token: nobody's", re.sub(" *client-certificate-data: .*\n", "", good)),
        re.sub("certificate-authority-data: .*", f"certificate-authority-data: {foreign}", good),
    ):
        assert broken != good
        path.write_text(broken, encoding="utf-8")
        assert "the cluster does not take it any more" in small.plan("bootstrap", code=3)
        small.gpuctl("bootstrap", "--yes")
        assert path.read_text(encoding="utf-8") == good
        small.plan("bootstrap", code=0)


def test_a_replacement_that_was_made_is_not_made_again_by_the_same_command(small: Lab) -> None:
    command = ("apply", "--yes", "--replace", "wk1")
    assert small.interrupted(*command, at="==> bootstrap", number=signal.SIGKILL) == -signal.SIGKILL
    machine = small.inside(9021, "cat /etc/machine-id")
    done = small.gpuctl(*command)
    assert "wk1: replaced already by the run that did not come to its end" in done.stdout
    assert small.inside(9021, "cat /etc/machine-id") == machine
    # that run has come to its end
    assert "vm/wk1" in small.gpuctl("plan", "--phase", "provision", "--replace", "wk1").stdout


def test_the_plain_tools_take_what_was_generated(small: Lab) -> None:
    terraform = small.workspace / "terraform"
    environment = {**small.environment(), "TF_CLI_CONFIG_FILE": str(terraform / "cli.tfrc")}
    for arguments in (["validate"], ["fmt", "-check", "-diff"]):
        command = ["terraform", f"-chdir={terraform}", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    ansible = small.workspace / "ansible"
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{small.instance.lan}", str(Path(sys.executable).parent / "ansible-playbook"),
         "-i", str(ansible / "inventory.json"), str(ROOT / "templates/ansible/bootstrap.yml"), "--check"],
        env={**small.environment(), "ANSIBLE_CONFIG": str(ansible / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("changed=0") == 2


def test_kill_in_verify_leaves_nothing_for_long(small: Lab) -> None:
    process = subprocess.Popen(
        small.command("verify"), env=small.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    namespaces = "k3s kubectl get namespaces -o name"
    for _ in range(300):
        if "gpuctl-verify" in small.inside(9011, namespaces):
            break
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert "gpuctl-verify" in small.inside(9011, namespaces)
    small.gpuctl("verify")
    assert "gpuctl-verify" not in small.inside(9011, namespaces)


def test_kill_in_destroy(small: Lab) -> None:
    code = small.interrupted("destroy", "--confirm", "small", at="removed", number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    done = small.gpuctl("destroy", "--confirm", "small", "-o", "json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["message"].startswith("proved: no VM, disk, mapping or image of small is left")
