"""The lines in pytest's header: which engine, where, and why that one; and what of it works in part only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_enclave.engine.select import Selected


def header_lines(probe: Callable[[], Selected], *, verbose: bool = False) -> list[str]:
    """`enclave: docker 28.2 at unix:///run/docker.sock (default socket)`, or why no engine answers.

    `enclave: embedded on this machine, as root (no Docker engine answers)` where no daemon is needed, and
    `enclave: simulated engine (no services, virtual time)` where nothing real runs. The engine's notes if `verbose`.
    """
    from pytest_enclave.errors import EngineUnavailable

    try:
        found = probe()
    except EngineUnavailable as error:
        return [f"enclave: no engine — {error.message}"]
    where = found.probe.endpoint
    if found.name == "simulated":
        return [f"enclave: simulated engine ({where})"]
    version = f" {found.probe.version}" if found.probe.version else ""
    place = f"on {where}" if found.name == "embedded" else f"at {where}"
    line = f"enclave: {found.name}{version} {place} ({found.probe.why})"
    return [line, *(f"enclave: {note}" for note in found.notes if verbose)]
