"""The simulated silicon: what a host is told of its cards, as files that the guest's stand-ins read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

CARDS_FILE = "/etc/lab/gpus.json"
PCI_FOLDER = "/etc/lab/pci"
HEALTHY: dict[str, Any] = {
    "healthy": True,
    "xid": 0,
    "ecc_uncorrectable": 0,
    "remap_pending": False,
    "remap_failed": False,
    "persistence": True,
}


def describe(paths: Sequence[str], faults: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The cards of one host, by their PCI addresses on the server. ``faults``: what differs from healthy, by index.

    A card's UUID belongs to the card, whichever host it is given to. ``gone``: a card that the driver no longer sees.
    """
    cards = []
    for index, path in enumerate(paths):
        fault = dict(faults.get(index, {}))
        if fault.pop("gone", False):
            continue
        cards.append(
            {
                "pci": f"0000:{index + 1:02x}:00.0",
                "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, path)}",
                "name": "NVIDIA A100 80GB PCIe",
                "product": "NVIDIA-A100-80GB-PCIe",
                "memory_mib": 81920,
                **HEALTHY,
                **fault,
            }
        )
    return cards


def files(paths: Sequence[str], faults: Mapping[int, Mapping[str, Any]]) -> dict[str, str]:
    """What is written into the host: the description, and the devices as /sys/bus/pci/devices shows them."""
    written = {CARDS_FILE: json.dumps(describe(paths, faults), indent=1)}
    for index in range(len(paths)):
        for name, value in (("vendor", "0x10de"), ("device", "0x20b5"), ("class", "0x030200")):
            written[f"{PCI_FOLDER}/0000:{index + 1:02x}:00.0/{name}"] = f"{value}\n"
    return written
