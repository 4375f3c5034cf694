"""What the process does that clears up after killed ones (`reaper`)."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.sweeping import Place, sweep
from pytest_enclave.errors import EngineError

WATCHING = 3.0
"""Seconds after the end for which is looked again: what the engine was asked to make at that moment comes later."""

PAUSE = 0.3
"""Seconds between two such looks."""

LONGEST = 60.0
"""Seconds that all of it may take."""


def main() -> None:
    """Clear up after those who were killed before; wait for the end of the pipe, and clear up then."""
    host, owner = sys.argv[1], Owner(*sys.argv[2].split(" "))
    threading.Thread(target=_with_engine, args=(host, sweep_once), daemon=True).start()
    sys.stdin.buffer.read()
    _with_engine(host, lambda place: reap(lambda deadline: sweep(place, os.environ, deadline, owner)))


def _with_engine(host: str, work: Callable[[Place], object]) -> None:
    """Do that on the engine."""
    with suppress(EngineError):
        found = find_engine(host or None, os.environ)
        endpoint = found.probe.endpoint
        work(Place(connect(found, os.environ), endpoint, {host, endpoint}))


def sweep_once(place: Place) -> None:
    """Remove what others have left. Raises EngineError."""
    sweep(place, os.environ, time.monotonic() + LONGEST)


def reap(remove: Callable[[float], Sequence[object]]) -> None:
    """Remove again and again, until nothing has come for a while and nothing is left, or time is over."""
    began = time.monotonic()
    while (now := time.monotonic()) < began + LONGEST:
        left: Sequence[object] = ["not even looked"]
        with suppress(Exception):
            left = remove(now + LONGEST)
        if not left and now > began + WATCHING:
            return
        time.sleep(PAUSE)
