"""Runs on a host with GPUs, as root, with its own Python only: what each layer there says of the cards, as JSON.

Output formats of nvidia-smi: NVIDIA's documentation; not tried on real hardware.
"""

from __future__ import annotations

import json
import os
import subprocess

DRIVER_ROOT = "/run/nvidia/driver"
TOOLKIT = ("/usr/local/nvidia/toolkit/nvidia-container-runtime", "/usr/bin/nvidia-container-runtime")
VALIDATIONS = "/run/nvidia/validations"
CONTAINERD = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
QUERY = "uuid,pci.bus_id,name,driver_version,persistence_mode,ecc.errors.uncorrected.volatile.sram"
REMAPPED = "gpu_uuid,remapped_rows.correctable,remapped_rows.uncorrectable,remapped_rows.pending,remapped_rows.failure"


def read(path: str) -> str:
    try:
        with open(path) as stream:
            return stream.read().strip()
    except OSError:
        return ""


def pci() -> list[str]:
    """Addresses of NVIDIA display and 3D controllers."""
    base = "/sys/bus/pci/devices"
    found = []
    for name in sorted(os.listdir(base)):
        device = os.path.join(base, name)
        if read(device + "/vendor") == "0x10de" and read(device + "/class").startswith("0x03"):
            found.append(name)
    return found


def smi(*arguments: str) -> list[list[str]]:
    """Rows of nvidia-smi, wherever the driver is installed. Raises OSError, ValueError."""
    command = ["nvidia-smi", *arguments, "--format=csv,noheader,nounits"]
    if os.path.exists(DRIVER_ROOT + "/usr/bin/nvidia-smi"):
        command = ["chroot", DRIVER_ROOT, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise ValueError((done.stdout + done.stderr).strip()[-300:])
    return [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def cards() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    rows = {row[0]: row[1:] for row in smi("--query-remapped-rows=" + REMAPPED)}
    for uuid, bus, name, driver, persistence, ecc in smi("--query-gpu=" + QUERY):
        correctable, uncorrectable, pending, failure = rows.get(uuid, ["", "", "", ""])
        found.append(
            {
                "uuid": uuid,
                "bus": bus.lower(),
                "name": name,
                "driver": driver,
                "persistence": persistence,
                "ecc_uncorrectable": ecc,
                "rows": {
                    "correctable": correctable,
                    "uncorrectable": uncorrectable,
                    "pending": pending,
                    "failure": failure,
                },
            }
        )
    return found


def main() -> None:
    said: dict[str, object] = {"boot": read("/proc/sys/kernel/random/boot_id"), "pci": pci(), "cards": [], "error": ""}
    said["toolkit"] = any(os.access(path, os.X_OK) for path in TOOLKIT)
    barriers = os.listdir(VALIDATIONS) if os.path.isdir(VALIDATIONS) else []
    said["barriers"] = sorted(name for name in barriers if name.endswith("-ready") and not name.startswith("."))
    said["runtime"] = "nvidia-container-runtime" in read(CONTAINERD)
    try:
        said["cards"] = cards()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said["error"] = str(error)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
