"""Ending a command in a container whose caller was killed. The engine lets it go on.

It is another process that does it, which reads from a pipe whose other end only the caller has. At an orderly end the
caller kills it; where the pipe ends, the caller was killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

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
    """The process that waits, for the command `run` in a container of the engine at `endpoint`."""

    def __init__(self, endpoint: str, container: str, run: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if not endpoint.startswith(LOCAL):
            return
        path = [str(Path(each).absolute()) for each in sys.path if each]
        # Signals from the terminal do not concern it, nor does it keep anybody's output open.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, endpoint, container, run, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The end is an orderly one: the process ends before it sees the end of the pipe."""
        if self._process is not None and self._process.stdin is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()


def main(endpoint: str, container: str, run: str) -> None:
    """Kill the command, if it still runs."""
    from pytest_enclave.engine.docker.commands import kill_command
    from pytest_enclave.engine.docker.connection import connect
    from pytest_enclave.engine.docker.discovery import find_engine

    with suppress(EngineError):
        kill_command(connect(find_engine(endpoint, os.environ), os.environ), container, run)
