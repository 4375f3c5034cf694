"""Ending a command in a container whose caller was killed. The engine lets it go on.

It is another process that does it, which the caller kills at an orderly end (`watchdog.py`).
"""

from __future__ import annotations

import os
from contextlib import suppress

from pytest_enclave.engine.docker.watchdog import Watchdog
from pytest_enclave.errors import EngineError

LOCAL = "unix://"
"""Processes of engines elsewhere cannot be reached (`kill_command`)."""

PROGRAM = """
import sys
sys.stdin.buffer.read()
sys.path[:] = sys.argv[4:]
from pytest_enclave.engine.docker.forsaken import main
main(*sys.argv[1:4])
"""


class Watch:
    """The process that waits, where it can do anything: for the command `run` in a container of the engine there."""

    def __init__(self, endpoint: str, container: str, run: str) -> None:
        arguments = (endpoint, container, run)
        self._watchdog = Watchdog(PROGRAM, arguments) if endpoint.startswith(LOCAL) else None

    def dismiss(self) -> None:
        """The end is an orderly one (`Watchdog.dismiss`)."""
        if self._watchdog is not None:
            self._watchdog.dismiss()


def main(endpoint: str, container: str, run: str) -> None:
    """Kill the command, if it still runs."""
    from pytest_enclave.engine.docker.commands import kill_command
    from pytest_enclave.engine.docker.connection import connect
    from pytest_enclave.engine.docker.discovery import find_engine

    with suppress(EngineError):
        kill_command(connect(find_engine(endpoint, os.environ), os.environ), container, run)
