"""Speak with a running lab: its state, its faults, its hosts past SSH. Used by the command line and by tests."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from lab.paths import Instance
from lab.shell import LabError


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("lab", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(instance: Instance, name: str, /, *, seconds: float = 60, **arguments: Any) -> Any:
    """The result of one of the daemon's calls (lab/daemon.py, ``CALLS``). LabError when it fails or nobody answers."""
    connection = _Connection(str(instance.control_socket), seconds)
    try:
        connection.request("POST", f"/{name}", json.dumps(arguments))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LabError(f"the lab {instance.name} does not answer ({error}); is it up? scripts/lab status") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LabError(str(answer["error"]))
    return answer["result"]
