"""A process that does something when this one was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class Watchdog:
    """It reads from a pipe whose other end only this process has: where that ends, this process was killed.

    `program` is its Python text. It is given the arguments, and after them where our modules and the SDK are. Its
    environment is `environ`, or that of this process. Raises OSError where there can be no more processes.
    """

    def __init__(self, program: str, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        path = [str(Path(each).absolute()) for each in sys.path if each]
        # Signals from the terminal do not concern it, nor does it keep anybody's output open.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", program, *arguments, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=None if environ is None else dict(environ),
            cwd=os.sep,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The end is an orderly one: the process ends before it sees the end of the pipe."""
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
