"""What is left on the engine when this process is killed is removed by another one, which waits for nothing else.

It reads from a pipe whose other end only this process has. At an orderly end this process kills it; where the pipe
ends, this process was killed, and all goes that nobody lives for any more: an enclave that other processes share
stays. No container has to run for it, nor any thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_enclave.engine.docker.owners import Owner

PROGRAM = """
import os, select, sys
os.nice(5)
select.select([0], [], [], 1.0)
sys.path[:] = sys.argv[3:]
from pytest_enclave.engine.docker.reaping import main
main()
"""
"""What the session does is more urgent, and a short one has nothing to spare for what others have left."""


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

    def hasten(self) -> None:
        """Have it remove what others have left without delay: this session takes its time, and needs the room."""
        assert self._process.stdin is not None
        # It may have been killed; then a next session's does it.
        with suppress(OSError):
            os.write(self._process.stdin.fileno(), b"\n")

    def dismiss(self) -> None:
        """The end is an orderly one: the process ends before it sees the end of the pipe."""
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def _path() -> Sequence[str]:
    """Where the process finds our modules and the SDK, whatever its working directory."""
    return [str(Path(each).absolute()) for each in sys.path if each]
