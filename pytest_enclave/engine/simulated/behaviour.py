"""How simulated services and images behave, as plain frozen values. All times are virtual seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from pytest_enclave.engine.protocol import Exit
from pytest_enclave.errors import Problem


class Timing(msgspec.Struct, frozen=True):
    """How long things take where a script says nothing of them in particular."""

    start: float = 0.3
    exec: float = 0.05
    request: float = 0.01
    pull: float = 1.0
    build: float = 2.0


class Behaviour(msgspec.Struct, frozen=True):
    """What a service does by itself. Times count from the moment its process runs; a pause stops them.

    `opens_after` has a time by port ID, None for a port that never opens; ports that it does not name are
    open at once. `exits_after` None: never. `logs` are (time, line), `files` content by absolute path.
    `start_takes` None: as the script's timing has it. `start_fails`: it does not start, for this reason.
    `problems` is what the engine's `check` finds in it.
    """

    opens_after: Mapping[str, float | None] = msgspec.field(default_factory=dict)
    exits_after: float | None = None
    exits_with: Exit = msgspec.field(default_factory=lambda: Exit(0))
    logs: tuple[tuple[float, str], ...] = ()
    files: Mapping[str, bytes] = msgspec.field(default_factory=dict)
    start_takes: float | None = None
    start_fails: str | None = None
    problems: tuple[Problem, ...] = ()


class ScriptedImage(msgspec.Struct, frozen=True):
    """An image: its digest, whether the engine has it before any pull, and why it cannot be had.

    `missing` None: it can. `pull_takes` None: as the script's timing has it.
    """

    digest: str
    local: bool = True
    missing: str | None = None
    pull_takes: float | None = None


class ScriptedBuild(msgspec.Struct, frozen=True):
    """The build of an image: why it fails (None: it does not), and what it takes (None: as the timing has it)."""

    fails: str | None = None
    takes: float | None = None


def digest_of(reference: str) -> str:
    """The digest of an image that no script gives another: always the same for the same reference."""
    return "sha256:" + hashlib.sha256(reference.encode()).hexdigest()
