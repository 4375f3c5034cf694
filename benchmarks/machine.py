"""What the measurements were made on, in a few words."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.errors import EngineUnavailable

IDLE = 0.95
"""Part of the processors' time that a machine which has nothing to do is idle."""

LOOK = 0.25
"""Seconds for which it is looked at."""

PATIENCE = 10.0
"""Seconds that are waited for it at most."""


def machine() -> Mapping[str, str]:
    """Processors, load, Python and Docker."""
    try:
        docker = find_engine(None, os.environ).probe.version
    except EngineUnavailable:
        docker = "none"
    return {
        "cores": str(os.cpu_count()),
        "load": f"{load():.1f}",
        "python": platform.python_version(),
        "docker": docker,
    }


def load() -> float:
    """How many processes wanted a processor, over the last minute."""
    return os.getloadavg()[0]


def wait_until_idle() -> None:
    """Wait, for a while at most, until nothing is at work.

    Engines and the kernel go on after whoever asked them for something has ended: containers and network namespaces are
    removed in the background. That is not to be at the cost of whoever comes next.
    """
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        idle, on = _processors()
        time.sleep(LOOK)
        idle_now, on_now = _processors()
        if idle_now - idle >= IDLE * (on_now - on):
            return


def _processors() -> tuple[int, int]:
    """For how long all processors had nothing to do, and for how long they have been on, in ticks."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3], sum(ticks)
