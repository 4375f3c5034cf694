"""Where this user's files are, by the environment: the directories of the XDG specification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_enclave.errors import EnclaveError


def directory(environ: Mapping[str, str], variable: str, usual: str, purpose: str) -> Path:
    """What a variable such as XDG_CACHE_HOME says, or else the `usual` place below the user's home directory.

    What it says counts if it is an absolute path. Raises EnclaveError where there is no home directory either: "there
    is no place PURPOSE".
    """
    told = environ.get(variable, "")
    return Path(told) if told.startswith("/") else Path(environ.get("HOME") or _home(variable, purpose), usual)


def _home(variable: str, purpose: str) -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise EnclaveError(
            f"there is no place {purpose}: this user has no home directory",
            remedy=f"set {variable} to the path of a directory that can be written",
        ) from None
