"""The user's cache directory: what is kept there is made or fetched again where it is gone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_enclave.errors import EnclaveError


def directory(environ: Mapping[str, str], name: str) -> Path:
    """Where things of this name are kept, for a user with this environment; there may be nothing yet.

    Raises EnclaveError where the user has no home directory, and says of no other place.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = f"{environ.get('HOME') or _home(name)}/.cache"
    return Path(base, "pytest-enclave", name)


def _home(name: str) -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise EnclaveError(
            f"there is no place for the cache of {name}: this user has no home directory",
            remedy="set XDG_CACHE_HOME to the path of a directory that can be written",
        ) from None
