"""Secrets are known by value once they are read; everything printed or written goes through ``Redactor.clean``."""

from __future__ import annotations

from threading import Lock

MASK = "[redacted]"


class Redactor:
    """Replaces known secrets in text. Values shorter than 6 characters are ignored: they would eat ordinary words."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()
        self._lock = Lock()

    def add(self, secret: str) -> str:
        """Remember the secret (and each line of it when it has several); returns it unchanged."""
        new = {part for part in (secret, *secret.splitlines()) if len(part.strip()) >= 6}
        with self._lock:
            # longest first, so that a secret containing another one disappears whole
            self._secrets = tuple(sorted({*self._secrets, *new}, key=len, reverse=True))
        return secret

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
