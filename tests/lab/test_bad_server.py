"""What the Proxmox server can have against us: one clear error, nothing touched that is not ours, then it goes on."""

from __future__ import annotations

import yaml

from tests.lab.conftest import Lab


def test_somebody_elses_vm_with_our_id_is_refused_and_lives(fresh: Lab) -> None:
    fresh.call("foreign-vm", vmid=9021, name="precious")
    before = fresh.mutations()
    done = fresh.gpuctl("provision", "--yes", code=1)
    assert "9021" in done.stderr
    assert "precious" in done.stderr
    assert "nothing was touched" in done.stderr
    assert fresh.mutations() == before
    # neither does destroy take it for ours
    fresh.gpuctl("destroy", "--confirm", "small")
    assert not [path for method, path in fresh.mutations() if method == "DELETE"]
    fresh.call("delete-vm", vmid=9021)
    assert "vm/wk1" in fresh.gpuctl("plan").stdout


def test_a_full_storage_is_refused_before_anything_is_made(fresh: Lab) -> None:
    fresh.call("set-free", storage="local-lvm", size=1 << 30)
    done = fresh.gpuctl("provision", "--yes", code=1)
    assert "local-lvm" in done.stderr
    assert fresh.mutations() == []


def test_a_token_without_a_privilege_names_it(fresh: Lab) -> None:
    from lab.pve.api import MINIMUM_PRIVILEGES

    fresh.call("set-privileges", names=[name for name in MINIMUM_PRIVILEGES if name != "VM.Allocate"])
    done = fresh.gpuctl("provision", "--yes", code=None)
    assert done.returncode in (1, 4)
    assert "VM.Allocate" in done.stderr
    assert fresh.mutations() == []
    fresh.call("expire-token")
    done = fresh.gpuctl("plan", code=4)
    assert "refuses the token" in done.stderr
    secret = (fresh.instance.root / "pve-token").read_text().strip().partition("=")[2]
    assert secret not in done.stderr + done.stdout
    for log in fresh.workspace.rglob("*.log"):
        assert secret not in log.read_text()


def test_a_certificate_nobody_vouches_for_is_refused(fresh: Lab) -> None:
    site = yaml.safe_load(fresh.site.read_text(encoding="utf-8"))
    ca = site["proxmox"].pop("ca")
    own = fresh.folder / "site.yaml"
    own.write_text(yaml.safe_dump(site), encoding="utf-8")
    done = fresh.gpuctl("provision", "--yes", code=4)
    assert "certificate is not trusted" in done.stderr
    assert "site.proxmox.ca" in done.stderr
    site["proxmox"]["ca"] = ca
    site["mirrors"]["os_image"]["checksum"] = "sha256:" + "0" * 63 + "1"
    own.write_text(yaml.safe_dump(site), encoding="utf-8")
    done = fresh.gpuctl("provision", "--yes", code=1)
    assert "checksum" in done.stderr
    own.unlink()
    fresh.gpuctl("provision", "--yes")


def test_a_failing_start_task_is_named_and_the_same_command_goes_on(fresh: Lab) -> None:
    fresh.call("fail-next", task="qmstart", message="start failed: QEMU exited with code 1")
    done = fresh.gpuctl("provision", "--yes", code=1)
    assert "QEMU exited with code 1" in done.stderr
    assert "Traceback" not in done.stderr
    fresh.gpuctl("provision", "--yes")
    plan = fresh.gpuctl("plan")
    assert "provision   = nothing to change" in plan.stdout
    fresh.gpuctl("destroy", "--confirm", "small")
    assert "There is nothing of small" in fresh.gpuctl("destroy", "--confirm", "small").stdout


def test_a_lost_workspace_is_not_taken_for_an_empty_server(fresh: Lab) -> None:
    fresh.gpuctl("provision", "--yes")
    identity = fresh.workspace / "cluster-id"
    kept = identity.read_text(encoding="utf-8")
    identity.write_text("0" * 32 + "\n", encoding="utf-8")
    before = fresh.mutations()
    done = fresh.gpuctl("destroy", "--confirm", "small", code=1)
    assert "carry another cluster id" in done.stderr
    assert "VM 9021 (wk1)" in done.stderr
    assert f"echo {kept.strip()} >" in done.stderr
    assert fresh.mutations() == before
    identity.write_text(kept, encoding="utf-8")
    assert "proved" in fresh.gpuctl("destroy", "--confirm", "small").stdout
