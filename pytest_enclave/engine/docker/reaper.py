"""What is left on the engine when this process is killed is removed by another one, which waits for nothing else.

It reads from a pipe whose other end only this process has. At an orderly end this process kills it; where the pipe
ends, this process was killed, and all goes that nobody lives for any more: an enclave that other processes share
stays. No container has to run for it, nor any thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.sweeping import Place, sweep
from pytest_enclave.errors import EngineError

PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from pytest_enclave.engine.docker.reaper import main; main()"

WATCHING = 3.0
"""Seconds after the end for which is looked again: what the engine was asked to make at that moment comes later."""

PAUSE = 0.3
"""Seconds between two such looks."""

LONGEST = 60.0
"""Seconds that all of it may take."""


class Reaper:
    """The process that waits; `host` is the engine as `find_engine` takes it."""

    def __init__(self, host: str, environ: Mapping[str, str]) -> None:
        # Signals from the terminal do not concern it, nor does it keep anybody's output open.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, host, " ".join(Owner.this_process().marks.values()), *_path()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            cwd=os.sep,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The end is an orderly one: the process ends before it sees the end of the pipe."""
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def _path() -> Sequence[str]:
    """Where the process finds our modules and the SDK, whatever its working directory."""
    return [str(Path(each).absolute()) for each in sys.path if each]


def main() -> None:
    """Clear up after those who were killed before; wait for the end of the pipe, and clear up then."""
    host, owner = sys.argv[1], Owner(*sys.argv[2].split(" "))
    # Whatever the session does meanwhile is more urgent.
    os.nice(5)
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
