"""The Proxmox host's report: the script that makes it, and what is read in it.

The reports in unverified/ are made after the kernel's documented formats; none of them was seen on a real A100 host.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gpuctl.doctor import report_of_host
from gpuctl.doctor.facts import Facts, Machine
from gpuctl.doctor.groups import host
from gpuctl.run.errors import GpuctlError

REPORTS = Path(__file__).parent / "unverified"
MACHINE = Machine("3.11.0", {}, "/", 1 << 40, {}, (), 0, (), {})


def judge(report: report_of_host.HostReport | GpuctlError | None) -> list[str]:
    lines = host.judge(Facts(MACHINE, None, None, report, "root@pve.example"))
    return [f"{line.outcome} | {line.name} | {line.measured} | {line.hint}".rstrip(" |") for line in lines]


@pytest.mark.parametrize("report", sorted(REPORTS.glob("*.report")), ids=lambda path: path.stem)
def test_a_report_is_judged_as_written_down(report: Path) -> None:
    found = judge(report_of_host.parse(report.read_text(encoding="utf-8"), report.name))
    assert found == report.with_suffix(".lines").read_text(encoding="utf-8").splitlines()


def test_a_host_that_was_not_looked_at_has_no_tick() -> None:
    found = judge(None)
    assert {line.partition(" | ")[0] for line in found} == {"not looked at"}
    assert "--host-ssh root@pve.example" in found[0]
    assert len(found) == len(judge(report_of_host.parse((REPORTS / "good.report").read_text("utf-8"), "x")))


def test_a_host_that_cannot_be_reached_fails_and_has_no_tick() -> None:
    found = judge(GpuctlError("root@pve cannot be reached by ssh", cause="Permission denied", next="ssh root@pve"))
    assert found[0] == "fail | report | root@pve cannot be reached by ssh: Permission denied | ssh root@pve"
    assert all(line.startswith("not looked at") for line in found[1:])


@pytest.mark.parametrize("text", ["", "gpuctl-host-report 1\nhost pve\n", "something else\nend\n"])
def test_half_a_report_is_none(text: str) -> None:
    with pytest.raises(GpuctlError, match="no whole host report"):
        report_of_host.parse(text, "report.txt")


def test_a_report_that_is_garbled_is_an_error_and_no_traceback() -> None:
    text = (REPORTS / "good.report").read_text(encoding="utf-8").replace("0x10de", "", 1)
    with pytest.raises(GpuctlError, match="cannot be read"):
        report_of_host.parse(text, "report.txt")


def tree(root: Path) -> None:
    """The part of a host's /proc, /sys and /etc that good.report was written down from."""
    bar1 = "0x{:016x} 0x{:016x} 0x000000000014220c"
    card = ("0x10de", "0x20b5", "0x030200")
    devices = {
        "0000:16:00.0": ("0x8086", "0x347a", "0x060400", "40", "0", "pcieport", "0x0 0x0 0x0"),
        "0000:17:00.0": (*card, "40", "0", "vfio-pci", bar1.format(0x200000000000, 0x201FFFFFFFFF)),
        "0000:27:00.0": (*card, "41", "1", "", bar1.format(0x202000000000, 0x203FFFFFFFFF)),
        "0000:31:00.0": ("0x8086", "0x1593", "0x020000", "12", "0", "ice", "0x0 0x0 0x0"),
    }
    for path, (vendor, device, class_, group, numa, driver, second) in devices.items():
        folder = root / "sys/bus/pci/devices" / path
        folder.mkdir(parents=True)
        for name, text in (("vendor", vendor), ("device", device), ("class", class_), ("numa_node", numa)):
            (folder / name).write_text(f"{text}\n", encoding="utf-8")
        (folder / "resource").write_text(f"0x0 0x0 0x0\n{second}\n0x0 0x0 0x0\n", encoding="utf-8")
        for link, target in (("iommu_group", f"groups/{group}"), ("driver", f"drivers/{driver}")):
            if not target.endswith("/"):
                (root / "sys" / target).mkdir(parents=True, exist_ok=True)
                (folder / link).symlink_to(root / "sys" / target)
    for node in ("node0", "node1"):
        (root / "sys/devices/system/node" / node).mkdir(parents=True)
    pages = root / "sys/kernel/mm/hugepages/hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "nr_hugepages").write_text("0\n", encoding="utf-8")
    (root / "proc").mkdir()
    (root / "proc/cmdline").write_text("BOOT_IMAGE=/vmlinuz root=ZFS=rpool quiet iommu=pt\n", encoding="utf-8")
    (root / "proc/modules").write_text("vfio_pci 16384 1 - Live 0x0\nice 1 0 - Live 0x0\n", encoding="utf-8")
    (root / "etc/modprobe.d").mkdir(parents=True)
    lines = "# passthrough\nblacklist nouveau\n  blacklist nvidia\noptions zfs zfs_arc_max=1\n"
    (root / "etc/modprobe.d/gpuctl.conf").write_text(lines, encoding="utf-8")


def run_in(root: Path) -> str:
    script = report_of_host.SCRIPT.read_text(encoding="utf-8")
    for top in ("/proc/", "/sys/", "/etc/modprobe.d/", "/lib/modprobe.d/"):
        script = script.replace(f" {top}", f" {root}{top}")
    tools = root / "bin"
    tools.mkdir()
    uname = "#!/bin/sh\ncase $1 in -n) echo pve ;; -r) echo 6.14.8-2-pve ;; esac\n"
    (tools / "uname").write_text(uname, encoding="utf-8")
    (tools / "uname").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-s"], input=script, env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_script_writes_the_report_that_is_read(tmp_path: Path) -> None:
    tree(tmp_path)
    assert run_in(tmp_path) == (REPORTS / "good.report").read_text(encoding="utf-8")


def test_the_script_runs_on_any_linux_and_is_read_back() -> None:
    done = subprocess.run(["sh", report_of_host.SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    report = report_of_host.parse(done.stdout, "here")
    assert report.kernel == os.uname().release
    assert len(report.devices) == len(list(Path("/sys/bus/pci/devices").glob("*")))
