"""Whether waiting for a service to stop is worth while.

The first process of a container gets only those signals that it asked for. One that did not ask for its stop signal
will never know of it: a shell that waits for a child, or a program that was written to be anything but the first.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROC = Path("/proc")

_ASKED_FOR = ("SigCgt", "SigBlk")
"""The kernel's sets of signals that a process handles, or holds back to look at later."""


def heeds_stop(container: str, inspected: Mapping[str, Any], proc: Path = PROC) -> bool:
    """Whether a running container's first process asked for its stop signal; true where that cannot be seen.

    It can only be seen where the engine is on this machine.
    """
    number = _number(str(inspected["Config"].get("StopSignal") or "SIGTERM"))
    process = proc / str(inspected["State"]["Pid"])
    try:
        if number is None or container not in (process / "cgroup").read_text():
            return True
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return True
    sets = [int(line.partition(":")[2], 16) for line in lines if line.startswith(_ASKED_FOR)]
    return any(signals >> number - 1 & 1 for signals in sets)


def _number(name: str) -> int | None:
    """The number of a signal as images name it: `SIGINT`, `INT`, `2`; None for one that is not known here."""
    if name.isdigit():
        return int(name)
    try:
        return signal.Signals["SIG" + name.upper().removeprefix("SIG")].value
    except KeyError:
        return None
