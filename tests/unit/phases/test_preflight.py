"""What the Proxmox server must have and allow, from what it says; the whole list at once."""

from __future__ import annotations

from pathlib import Path

from gpuctl.phases.provision import preflight
from gpuctl.spec.load import load
from gpuctl.systems.proxmox import PciMapping, Store, Vm

SPEC = load(Path(__file__).parents[3] / "examples/homelab.yaml").resolved
assert SPEC
GETTING_STARTED = (Path(__file__).parents[3] / "docs/getting-started.md").read_text(encoding="utf-8")


def documented_role() -> frozenset[str]:
    text = GETTING_STARTED.partition('--privs "')[2].partition('"')[0]
    return frozenset(text.replace("\\", " ").split())


def test_the_documented_role_is_enough_and_each_part_of_it_is_needed() -> None:
    assert SPEC
    role = documented_role()
    assert list(preflight.missing_privileges(SPEC, {"/": role})) == []
    for privilege in role:
        assert list(preflight.missing_privileges(SPEC, {"/": role - {privilege}})), privilege


def test_a_privilege_counts_on_its_path_and_above_only() -> None:
    assert SPEC
    role = documented_role()
    elsewhere = {"/vms/100": role, "/storage/other": role}
    assert len(list(preflight.missing_privileges(SPEC, elsewhere))) == 8


def test_storages_are_checked_for_being_there_content_and_room() -> None:
    assert SPEC
    stores = {
        "local-lvm": Store("local-lvm", True, frozenset({"images"}), 1 << 30, 1 << 40),
        "local": Store("local", True, frozenset({"iso"}), 1 << 40, 1 << 40),
    }
    lines = list(preflight.wrong_storages(SPEC, stores, preflight.new_bytes(SPEC, set())))
    assert any("no storage nvme" in line for line in lines)
    assert any("import" in line and "local" in line for line in lines)
    assert any("local-lvm" in line and "free" in line for line in lines)


def test_a_card_we_have_a_claim_on_in_somebody_elses_vm_is_named() -> None:
    assert SPEC
    theirs = {"0000:01:00.0": Vm(100, "desktop", "pve", "stopped", ())}
    ours = {"homelab-wk-gpu1-gpu0": PciMapping("homelab-wk-gpu1-gpu0", "", ("0000:01:00.0",), ())}
    assert list(preflight.cards_in_use(SPEC, {}, theirs)) == []
    assert "VM 100 (desktop), which is stopped" in next(preflight.cards_in_use(SPEC, ours, theirs))


def test_a_mapping_of_our_name_without_our_mark_is_somebody_elses() -> None:
    assert SPEC
    name = "homelab-wk-gpu1-gpu0"
    theirs = {name: PciMapping(name, "mine, keep off", ("0000:01:00.0",), ())}
    assert any(name in line for line in preflight.foreign_mappings(SPEC, "id", theirs))
    ours = {name: PciMapping(name, "gpuctl:homelab:id", ("0000:01:00.0",), ())}
    assert list(preflight.foreign_mappings(SPEC, "id", ours)) == []
