"""What is left on the engine when this process is killed is removed by another one, which waits for nothing else.

At an orderly end this process kills it (`watchdog.py`). Else all goes that nobody lives for any more: an enclave that
other processes share stays. No container has to run for it, nor any thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.watchdog import Watchdog

PROGRAM = """
import os, select, sys
os.nice(5)
select.select([0], [], [], 1.0)
sys.path[:] = sys.argv[3:]
from pytest_enclave.engine.docker.reaping import main
main()
"""
"""What the session does is more urgent, and a short one has nothing to spare for what others have left."""


class Reaper(Watchdog):
    """The process that waits; `host` is the engine as `find_engine` takes it."""

    def __init__(self, host: str, environ: Mapping[str, str]) -> None:
        super().__init__(PROGRAM, (host, " ".join(Owner.this_process().marks.values())), environ)

    def hasten(self) -> None:
        """Have it remove what others have left without delay: this session takes its time, and needs the room."""
        assert self._process.stdin is not None
        # It may have been killed; then a next session's does it.
        with suppress(OSError):
            os.write(self._process.stdin.fileno(), b"\n")
