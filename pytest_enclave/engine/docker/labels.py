"""Labels: every resource on the engine tells whose it is, so that nothing of ours is ever lost, nor anybody else's
removed."""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "org.pytest-enclave."
ENCLAVE = f"{PREFIX}enclave"
"""The enclave's name. Everything has it."""

SERVICE = f"{PREFIX}service"
"""The service's name. Containers of services have it."""

HOME = f"{PREFIX}home"
"""The enclave's home: while that is there, the enclave goes by this user's ledger. Everything has it; "" for none."""

SPEC = f"{PREFIX}spec"
"""What a service was started from, for other processes (`inscriptions`). Containers of services have it."""

OWNER_PID = f"{PREFIX}owner-pid"
"""The process that made it: its id …"""

OWNER_NAMESPACE = f"{PREFIX}owner-namespace"
"""… in which namespace of process ids …"""

OWNER_BOOT = f"{PREFIX}owner-boot"
"""… since which boot of its machine …"""

OWNER_BEGAN = f"{PREFIX}owner-began"
"""… and when it began, in clock ticks since that boot."""

CREATED = f"{PREFIX}created"
"""When it was made, in seconds since the epoch."""

FROZEN = f"{PREFIX}frozen"
"""The name of a freeze. Images of frozen services have it, and so have containers that were made from them."""

SHAPER = f"{PREFIX}shaper"
"""The name of a service. The container that shapes its traffic has it."""

PAUSE = f"{PREFIX}pause"
"""The version of the pause program. The image of pods has it."""


def of_enclave(enclave: str) -> Mapping[str, list[str]]:
    """The engine's filter for everything of an enclave."""
    return {"label": [f"{ENCLAVE}={enclave}"]}


def of_service(enclave: str, service: str) -> Mapping[str, list[str]]:
    """The engine's filter for the containers of a service."""
    return {"label": [f"{ENCLAVE}={enclave}", f"{SERVICE}={service}"]}


def of_freeze(freeze: str) -> Mapping[str, list[str]]:
    """The engine's filter for the images of a freeze."""
    return {"label": [f"{FROZEN}={freeze}"]}
