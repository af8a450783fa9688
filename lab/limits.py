"""What a machine must have left for the hosts of a lab, found out by taking it and giving it back."""

from __future__ import annotations

import ctypes
import os

from lab.shell import LabError

# 114 were in use with 7 hosts: systemd, K3s with its kubelet, containerd, dbus and timesyncd of each
INOTIFY_PER_HOST = 17


def require(hosts: int, others: int) -> None:
    """LabError when the kernel does not let root make enough inotify instances: K3s would die saying little of it.

    ``others``: hosts that labs which are up are to start yet.
    """
    wanted = (hosts + others) * INOTIFY_PER_HOST
    besides = f" and {others} that other labs are to start yet" if others else ""
    libc = ctypes.CDLL(None, use_errno=True)
    taken: list[int] = []
    try:
        while len(taken) < wanted:
            made = libc.inotify_init1(os.O_CLOEXEC)
            if made < 0:
                raise LabError(
                    f"{hosts} hosts{besides} need about {wanted} inotify instances, and this machine lets root make "
                    f"{len(taken)} more: take other labs down, or raise the limit that the others share "
                    f"(sysctl fs.inotify.max_user_instances={2 * wanted + 128})"
                )
            taken.append(made)
    finally:
        for descriptor in taken:
            os.close(descriptor)
