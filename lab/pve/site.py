"""What the emulated server has: memory, storages, bridge, cards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NODE = "pve"
GIB, TIB = 1 << 30, 1 << 40


@dataclass(frozen=True)
class Storage:
    """A storage of the server. ``total`` bytes."""

    type: str
    content: str
    total: int
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Inventory:
    """The server. ``cards``: PCI devices as ``/nodes/pve/hardware/pci`` lists them."""

    memory: int
    cpus: int
    storages: dict[str, Storage]
    cards: tuple[dict[str, Any], ...]
    bridges: tuple[str, ...] = ("vmbr0",)

    @classmethod
    def default(cls, gpus: int) -> Inventory:
        """A two-socket server with A100 PCIe 80GB cards."""
        return cls(
            memory=TIB,
            cpus=128,
            storages={
                "local": Storage("dir", "iso,vztmpl,backup,import", 100 * GIB, (("path", "/var/lib/vz"),)),
                "local-lvm": Storage("lvmthin", "images,rootdir", 4 * TIB, (("vgname", "pve"), ("thinpool", "data"))),
                "nvme": Storage("lvmthin", "images,rootdir", 8 * TIB, (("vgname", "nvme"), ("thinpool", "data"))),
            },
            cards=(*(card(number) for number in range(gpus)), NETWORK_CARD),
        )


def card(number: int) -> dict[str, Any]:
    """An A100 PCIe 80GB in an IOMMU group of its own."""
    return {
        "id": f"0000:{0x17 + 16 * number:02x}:00.0",
        "class": "0x030200",
        "vendor": "0x10de",
        "device": "0x20b5",
        "vendor_name": "NVIDIA Corporation",
        "device_name": "GA100 [A100 PCIe 80GB]",
        "subsystem_vendor": "0x10de",
        "subsystem_device": "0x1533",
        "iommugroup": 40 + number,
    }


NETWORK_CARD = {
    "id": "0000:01:00.0",
    "class": "0x020000",
    "vendor": "0x8086",
    "device": "0x1593",
    "vendor_name": "Intel Corporation",
    "device_name": "Ethernet Controller E810-C",
    "subsystem_vendor": "0x8086",
    "subsystem_device": "0x0002",
    "iommugroup": 12,
}
