"""Labels: every resource on the engine tells whose it is, so that nothing of ours is ever lost, nor anybody else's
removed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

PREFIX = "org.pytest-enclave."
ENCLAVE = f"{PREFIX}enclave"
"""The enclave's name. Everything has it."""

SERVICE = f"{PREFIX}service"
"""The service's name. Containers of services have it."""

OWNER_PID = f"{PREFIX}owner-pid"
"""The process that made it …"""

OWNER_BOOT = f"{PREFIX}owner-boot"
"""… since which boot of its machine: a process id means nothing on another machine, or after a restart …"""

CREATED = f"{PREFIX}created"
"""… and when, in seconds since the epoch."""

FROZEN = f"{PREFIX}frozen"
"""The name of a freeze. Images of frozen services have it, and so have containers that were made from them."""

PAUSE = f"{PREFIX}pause"
"""The version of the pause program. The image of pods has it."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def ownership(enclave: str) -> dict[str, str]:
    """The labels of everything that this process makes for an enclave."""
    return {
        ENCLAVE: enclave,
        OWNER_PID: str(os.getpid()),
        OWNER_BOOT: boot_id(),
        CREATED: f"{time.time():.3f}",
    }


def boot_id() -> str:
    """What tells this boot of this machine from all others, or "" where the system does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def of_enclave(enclave: str) -> Mapping[str, list[str]]:
    """The engine's filter for everything of an enclave."""
    return {"label": [f"{ENCLAVE}={enclave}"]}


def of_freeze(freeze: str) -> Mapping[str, list[str]]:
    """The engine's filter for the images of a freeze."""
    return {"label": [f"{FROZEN}={freeze}"]}
