"""Serve the provider to Terraform over go-plugin's protocol, with the plumbing of the package tf."""

from __future__ import annotations

import signal
import sys
from typing import Any

import tf.provider
import tf.runner

from lab.provider.servicer import Servicer


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


if __name__ == "__main__":
    # Terraform decides what an interrupt means; like the real provider we finish what is under way
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tf.provider.ProviderServicer = Servicer
    tf.runner._ShutdownInterceptor = OnlyShutdownEnds
    tf.runner.run_provider(App(), sys.argv)
