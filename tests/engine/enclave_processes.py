"""The processes of an enclave, as they are seen from outside of it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from pytest_enclave.engine.embedded.engine import EmbeddedEngine


def children(pid: int) -> list[int]:
    """In the order in which they were forked, as long as numbers do not begin anew."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return sorted(map(int, found), key=begun)


def begun(pid: int) -> tuple[int, int]:
    """When a process began, in ticks; and its number."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), pid
    return 0, pid


def descendants(pid: int) -> list[int]:
    """All that came from a process, itself first."""
    return [pid, *(each for child in children(pid) for each in descendants(child))]


class Processes:
    """Those of the only enclave of an engine."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        process = engine._launcher._process
        assert process is not None
        self.launcher = process.pid
        (self.supervisor,) = children(self.launcher)
        self.boot = next(each for each in children(self.supervisor) if len(children(each)) == 1)
        (self.init,) = children(self.boot)
        self.keeper, self.relay, self.names = children(self.init)[:3]
        self.all = descendants(self.supervisor)

    def gone(self, seconds: float = 2.0) -> bool:
        """Whether all of them are gone by then."""
        deadline = time.monotonic() + seconds
        while any(map(lives, self.all)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def lives(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pid: int) -> None:
    """Kill a process of our own."""
    os.kill(pid, signal.SIGKILL)
