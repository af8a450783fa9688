"""The dated table of versions beside this file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def table() -> dict[str, Any]:
    """The table; ``date`` says when it was made."""
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return found


def minor(version: str) -> str:
    """``1.34`` of ``v1.34.4+k3s1``; ``26.3`` of ``v26.3.3``."""
    return ".".join(version.removeprefix("v").split("+")[0].split(".")[:2])


def order(version: str) -> tuple[int, ...]:
    """For comparing: ``(26, 3)`` of ``26.3``."""
    return tuple(int(part) for part in version.split("."))


def newest_for(column: str, kubernetes: str) -> str:
    """The newest release in this column for the Kubernetes version; of an unknown one the newest of all."""
    known: dict[str, str] = table()[column]
    return known.get(minor(kubernetes)) or known[max(known, key=order)]


def gpu_model(pci_id: str) -> str:
    """The model of a card by its PCI device id (``10de:20b5``); "" when it is not known."""
    vendor, _, device = pci_id.partition(":")
    return next((m for m, facts in table()["gpu_models"].items() if vendor == "10de" and device in facts["pci"]), "")
