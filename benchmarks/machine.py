"""What the measurements were made on, in a few words."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.errors import EngineUnavailable


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
