"""Read a secret where its reference points. The value is known to the redactor before anybody else sees it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.redact import Redactor
from gpuctl.spec.resolved import SecretRef

SOPS_SECONDS = 30


def read_secret(ref: SecretRef, redactor: Redactor) -> str:
    """The secret's text without surrounding white space. Raises GpuctlError (exit 4) naming the reference only."""
    readers = {"env": _from_environment, "file": _from_file, "sops": _from_sops}
    text = readers[ref.kind](ref).strip()
    if not text:
        raise _missing(ref, "it is empty")
    return redactor.add(text)


def _missing(ref: SecretRef, cause: str, next: str = "") -> GpuctlError:
    return GpuctlError(f"the secret {ref} cannot be read", cause=cause, next=next, exit_code=Exit.CREDENTIALS)


def _from_environment(ref: SecretRef) -> str:
    value = os.environ.get(ref.value)
    if value is None:
        raise _missing(ref, f"{ref.value} is not set in the environment", f"export {ref.value}=...")
    return value


def _from_file(ref: SecretRef) -> str:
    try:
        return Path(ref.value).read_text(encoding="utf-8")
    except OSError as error:
        raise _missing(ref, error.strerror or "unreadable") from error
    except UnicodeDecodeError as error:
        raise _missing(ref, "it is not text") from error


def _from_sops(ref: SecretRef) -> str:
    path, _, key = ref.value.partition("#")
    extract = "".join(f"[{json.dumps(part)}]" for part in key.split(".") if part)
    command = ["sops", "--decrypt", *(["--extract", extract] if extract else []), path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SOPS_SECONDS, check=False)
    except FileNotFoundError:
        raise _missing(ref, "sops is not installed", "install sops or use env: or file:") from None
    except subprocess.TimeoutExpired:
        raise _missing(ref, f"sops did not answer within {SOPS_SECONDS} s") from None
    if done.returncode:
        raise _missing(ref, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "sops failed")
    return done.stdout
