"""The script that counts the cards a pod sees, run by a real shell, and what its words are taken for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gpuctl.run.errors import GpuctlError
from gpuctl.verify import intruders

TWO = "echo 'GPU 0: NVIDIA A100 (UUID: GPU-a)'; echo 'GPU 1: NVIDIA A100 (UUID: GPU-b)'"
CASES = [
    (("null",), None, 0),
    (("nvidia0", "nvidia1", "nvidiactl"), None, 2),
    (("null",), TWO, 2),
    (("nvidia0",), "echo no library >&2; exit 127", 1),
    (("null",), "true", 0),
]


def look(folder: Path, devices: tuple[str, ...], smi: str | None) -> str:
    for name in devices:
        (folder / name).touch()
    if smi is not None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n", encoding="utf-8")
        (folder / "nvidia-smi").chmod(0o755)
    script = intruders.LOOK.replace("/dev/", f"{folder}/")
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


@pytest.mark.parametrize(("devices", "smi", "cards"), CASES)
def test_cards_are_counted_by_device_and_by_tool(
    tmp_path: Path, devices: tuple[str, ...], smi: str | None, cards: int
) -> None:
    assert intruders.count(look(tmp_path, devices, smi)) == cards


def test_a_tool_that_fails_is_not_a_count(tmp_path: Path) -> None:
    with pytest.raises(GpuctlError) as caught:
        intruders.count(look(tmp_path, ("null",), "echo driver mismatch; exit 9"))
    assert caught.value.cause == "error: nvidia-smi -L: driver mismatch"


@pytest.mark.parametrize("said", ["", "\n", "/dev/nvidia0\n", "cards \n", "cards 0\nKilled\n"])
def test_silence_is_not_zero_cards(said: str) -> None:
    with pytest.raises(GpuctlError, match="did not say"):
        intruders.count(said)
