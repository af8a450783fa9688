"""Runs in a notebook's kernel, in any image (standard library only). gpuctl appends a call, which prints JSON."""

from __future__ import annotations

import concurrent.futures
import json
import mmap
import os
import socket
import subprocess
import time


def compute(slices: bool) -> None:
    """Cards (or MIG slices) that nvidia-smi lists, and matrix products by a library that knows GPUs, else by none."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        listed = []
    mark = "MIG " if slices else "GPU "
    cards = sum(line.strip().startswith(mark) for line in listed)
    for product in (_by_torch, _by_tensorflow, _by_hand):
        try:
            library, devices, correct = product()
            break
        except ImportError:
            continue
    print(json.dumps({"cards": cards, "library": library, "devices": devices, "correct": correct}))


SIZE = 512


def _by_torch() -> tuple[str, int, bool]:
    import torch

    # small whole numbers in double precision: every sum is exact, on every device
    left = torch.arange(SIZE * SIZE, dtype=torch.float64).reshape(SIZE, SIZE) % 7
    right = torch.arange(SIZE * SIZE, dtype=torch.float64).reshape(SIZE, SIZE) % 5
    wanted, devices = left @ right, torch.cuda.device_count()
    correct = all(
        torch.equal((left.to(f"cuda:{index}") @ right.to(f"cuda:{index}")).cpu(), wanted) for index in range(devices)
    )
    return f"PyTorch {torch.__version__}", devices, correct


def _by_tensorflow() -> tuple[str, int, bool]:
    import tensorflow as tf

    left = tf.reshape(tf.range(SIZE * SIZE, dtype=tf.float64) % 7, (SIZE, SIZE))
    right = tf.reshape(tf.range(SIZE * SIZE, dtype=tf.float64) % 5, (SIZE, SIZE))
    with tf.device("/CPU:0"):
        wanted = tf.matmul(left, right)
    devices, correct = len(tf.config.list_physical_devices("GPU")), True
    for index in range(devices):
        with tf.device(f"/GPU:{index}"):
            correct = correct and bool(tf.reduce_all(tf.matmul(left, right) == wanted))
    return f"TensorFlow {tf.__version__}", devices, correct


def _by_hand() -> tuple[str, int, bool]:
    size = 96
    left = [[(row * size + column) % 7 for column in range(size)] for row in range(size)]
    right = [[(row * size + column) % 5 for column in range(size)] for row in range(size)]
    columns = list(zip(*right, strict=True))
    product = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]
    # checked by another way to the same: (A B) v = A (B v)
    vector = list(range(size))
    inner = [sum(a * b for a, b in zip(row, vector, strict=True)) for row in right]
    one = [sum(a * b for a, b in zip(row, inner, strict=True)) for row in left]
    other = [sum(a * b for a, b in zip(row, vector, strict=True)) for row in product]
    return "", 0, one == other


SLOT, BLOCK, BLOCKS = 0.2, 4 << 20, 32


def write_speed(folder: str, turn: int, seconds: float = 4.0) -> None:
    """Bytes per second to the disk, in every other fifth of a second of the machine's clock.

    Two that are told ``turn`` 0 and 1 at the same time write alternately, so that whatever else the disk has to do
    slows both alike; one after the other, they differed by a factor of two on a disk that others use. Past the page
    cache, since copying measures CPUs.
    """
    path = os.path.join(folder, f".gpuctl-speed-{os.getpid()}")
    block = mmap.mmap(-1, BLOCK)  # whole pages, as O_DIRECT wants them
    block.write(os.urandom(BLOCK))
    handle = _opened(path)
    end, spent, written, count = time.time() + seconds, 0.0, 0, 0
    try:
        while not count or time.time() < end:
            slot, into = divmod(time.time(), SLOT)
            if slot % 2 != turn:
                time.sleep(SLOT - into)
                continue
            started = time.monotonic()
            written += os.pwrite(handle, block, count % BLOCKS * BLOCK)
            spent += time.monotonic() - started
            count += 1
        print(json.dumps(written / spent))
    finally:
        os.close(handle)
        os.remove(path)


def _opened(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_DSYNC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:  # of a file system without it
        return os.open(path, flags, 0o600)


def reached(targets: list[tuple[str, str, int]], seconds: float = 3.0) -> None:
    """The names of the targets (name, host, port) that accept a connection in time."""

    def one(target: tuple[str, str, int]) -> str:
        try:
            socket.create_connection((target[1], target[2]), timeout=seconds).close()
        except OSError:
            return ""
        return target[0]

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(targets))) as pool:
        print(json.dumps([name for name in pool.map(one, targets) if name]))


def keep(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    print(json.dumps(True))


def kept(path: str, text: str) -> None:
    try:
        with open(path, encoding="utf-8") as stream:
            print(json.dumps(stream.read() == text))
    except OSError:
        print(json.dumps(False))
