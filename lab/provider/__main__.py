"""Serve the provider to Terraform over go-plugin's protocol, with the plumbing of the package tf."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import tf.provider
import tf.runner

from lab.provider.servicer import Servicer

# for what is under way when Terraform dies: tasks of the emulated server take seconds
LAST_SECONDS = 30.0


class App:
    """What tf wants to know of a provider."""

    def full_name(self) -> str:
        return "registry.terraform.io/bpg/proxmox"


class OnlyShutdownEnds(tf.runner._ShutdownInterceptor):  # type: ignore[misc]
    """tf ends the server on StopProvider, which would abort what is being created; only Shutdown may."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if details.method == "/plugin.GRPCController/Shutdown":
            self.stopped = True
        return handler


def end_after(terraform: int) -> None:
    """A Terraform that is killed ends nobody's provider: it would stay for ever, a process that the lab made."""
    while os.getppid() == terraform:
        time.sleep(1)
    time.sleep(LAST_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_after, args=(os.getppid(),), daemon=True).start()
    # Terraform decides what an interrupt means; like the real provider we finish what is under way
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tf.provider.ProviderServicer = Servicer
    tf.runner._ShutdownInterceptor = OnlyShutdownEnds
    tf.runner.run_provider(App(), sys.argv)
