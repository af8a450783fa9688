"""The report that on_host.sh writes on the Proxmox host, read back.

The formats below /proc and /sys are the kernel's documented ones (Documentation/ABI/testing/sysfs-bus-pci); what an
A100 host says there has not been seen by us.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpuctl.run.errors import Exit, GpuctlError

SCRIPT = Path(__file__).with_name("on_host.sh")
FIRST, LAST = "gpuctl-host-report 1", "end"


@dataclass(frozen=True)
class Device:
    """A PCI device. ``id`` as ``10de:20b5``; ``group`` and ``numa`` -1 for none; ``driver`` "" for none.

    ``bar1``: address and bytes of the second memory window, (0, 0) when it has none.
    """

    path: str
    id: str
    class_: str
    group: int
    numa: int
    driver: str
    bar1: tuple[int, int]

    @property
    def card(self) -> bool:
        """Whether it is an NVIDIA display or 3D controller."""
        return self.id.startswith("10de:") and self.class_.startswith("03")

    @property
    def bridge(self) -> bool:
        """Bridges may share a card's IOMMU group: they are not passed on."""
        return self.class_.startswith("06")


@dataclass(frozen=True)
class HostReport:
    """``hugepages``: bytes reserved; ``modules``: those of interest that are loaded; ``modprobe``: lines of its
    configuration that keep drivers away from cards."""

    host: str
    kernel: str
    cmdline: tuple[str, ...]
    devices: tuple[Device, ...]
    numa_nodes: int
    hugepages: int
    modules: frozenset[str]
    modprobe: tuple[str, ...]

    @property
    def cards(self) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if device.card)


def parse(text: str, source: str) -> HostReport:
    """GpuctlError when it is not such a report, or not the whole of it. ``source`` names it in the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines[:1] != [FIRST] or lines[-1:] != [LAST]:
        raise GpuctlError(
            f"{source} is no whole host report",
            cause=f"it starts with {lines[0][:60]!r} and ends with {lines[-1][:60]!r}" if lines else "it is empty",
            next="on the host: sh report.sh > report.txt, with what gpuctl doctor --host-script prints",
            exit_code=Exit.USAGE,
        )
    rows: dict[str, list[str]] = {}
    for line in lines[1:-1]:
        key, _, rest = line.partition(" ")
        rows.setdefault(key, []).append(rest)
    try:
        return HostReport(
            host=rows["host"][0],
            kernel=rows["kernel"][0],
            cmdline=tuple(rows["cmdline"][0].split()),
            devices=tuple(_device(row.split()) for row in rows.get("pci", ())),
            numa_nodes=len(rows.get("numa", ())),
            hugepages=sum(_pages(row) for row in rows.get("hugepages", ())),
            modules=frozenset(rows.get("module", ())),
            modprobe=tuple(" ".join(row.split()) for row in rows.get("modprobe", ())),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise GpuctlError(f"{source} cannot be read", cause=f"{type(error).__name__}: {error}") from error


def _device(row: list[str]) -> Device:
    path, vendor, device, class_, group, numa, driver, *bar1 = row
    start, end = (int(bar1[0], 16), int(bar1[1], 16)) if bar1 else (0, 0)
    return Device(
        path,
        f"{vendor.removeprefix('0x')}:{device.removeprefix('0x')}",
        class_.removeprefix("0x"),
        -1 if group == "-" else int(group),
        int(numa),
        "" if driver == "-" else driver,
        (start, end - start + 1 if end else 0),
    )


def _pages(row: str) -> int:
    # "hugepages-2048kB 0"
    name, number = row.split()
    return int(name.removeprefix("hugepages-").removesuffix("kB")) * 1024 * int(number)
