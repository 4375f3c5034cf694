"""The line in pytest's header: which engine, where, and why that one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_enclave.engine.protocol import Probe


def header_line(engine: str, probe: Callable[[], Probe]) -> str:
    """`enclave: docker 28.2 at unix:///run/docker.sock (default socket)`, or why no engine answers.

    `enclave: simulated engine (no services, virtual time)` where nothing real runs.
    """
    from pytest_enclave.errors import EngineUnavailable

    name = "docker" if engine == "auto" else engine
    try:
        found = probe()
    except EngineUnavailable as error:
        return f"enclave: no engine — {error.message}"
    if name == "simulated":
        return f"enclave: simulated engine ({found.endpoint})"
    version = f" {found.version}" if found.version else ""
    return f"enclave: {name}{version} at {found.endpoint} ({found.why})"
