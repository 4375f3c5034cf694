"""The user's cache directory: what is kept there is made or fetched again where it is gone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_enclave import places


def directory(environ: Mapping[str, str], name: str) -> Path:
    """Where things of this name are kept, for a user with this environment; there may be nothing yet.

    Raises EnclaveError where the user has no home directory, and says of no other place.
    """
    base = places.directory(environ, "XDG_CACHE_HOME", ".cache", f"for the cache of {name}")
    return base / "pytest-enclave" / name
