"""HTTPS through the ingress: connects to its address, speaks to a host name, trusts one CA. Needs no DNS."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gpuctl.run.errors import GpuctlError

SECONDS = 15.0
PORT = 443


def answers(address: str, port: int, seconds: float = SECONDS) -> str:
    """Why nothing takes connections there, in words; "" when something does."""
    try:
        socket.create_connection((address, port), timeout=seconds).close()
    except OSError as error:
        return f"{address}:{port}: {error.strerror or error}"
    return ""


@dataclass(frozen=True)
class Answer:
    """``body``: parsed JSON where it is JSON, else text."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Https:
    """Every call has a timeout and raises GpuctlError only; an answer with an error status is an answer.

    ``ca_pem`` "": the certificates that the operator's machine trusts.
    """

    def __init__(self, address: str, hostname: str, ca_pem: str = "") -> None:
        self.address, self.hostname = address, hostname
        self._ca_pem = ca_pem

    @property
    def where(self) -> str:
        return f"https://{self.hostname} at {self.address}"

    def connect(self, seconds: float = SECONDS) -> ssl.SSLSocket:
        """A verified TLS connection; the caller closes it."""
        with self._translated():
            context = ssl.create_default_context(cadata=self._ca_pem or None)
            plain = socket.create_connection((self.address, PORT), timeout=seconds)
            try:
                return context.wrap_socket(plain, server_hostname=self.hostname)
            except BaseException:
                plain.close()
                raise

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Answer:
        """One request; ``body`` is sent as JSON."""
        with self._asked(method, path, body, headers, seconds) as response:
            text = response.read().decode(errors="replace")
            try:
                parsed = json.loads(text)
            except ValueError:
                parsed = text
            return Answer(response.status, parsed, dict(response.getheaders()))

    @contextmanager
    def lines(self, path: str, *, headers: Mapping[str, str], seconds: float = SECONDS) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come, none of them later than ``seconds`` after the one before."""
        with self._asked("GET", path, None, headers, seconds) as response:
            if response.status != 200:
                raise GpuctlError(f"GET {path} was answered {response.status}", where=self.where)
            yield (line.decode(errors="replace").rstrip("\r\n") for line in response)

    @contextmanager
    def _asked(
        self, method: str, path: str, body: object, headers: Mapping[str, str] | None, seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.hostname, timeout=seconds)
        connection.sock = self.connect(seconds)
        try:
            with self._translated():
                payload = None if body is None else json.dumps(body)
                given = {"Accept": "application/json", **({"Content-Type": "application/json"} if payload else {})}
                connection.request(method, path, payload, {**given, **(headers or {})})
                yield connection.getresponse()
        finally:
            connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise GpuctlError(
                f"the certificate of {self.hostname} is not the one expected",
                where=self.where,
                cause=error.verify_message,
                next="gpuctl manage (issuer and certificates); has cert-manager issued it yet?",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise GpuctlError(
                f"{self.hostname} does not answer",
                where=self.where,
                cause=str(error) or type(error).__name__,
                next="gpuctl manage (ingress controller and its address)",
            ) from error
