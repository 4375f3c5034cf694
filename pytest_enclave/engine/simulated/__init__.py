"""The simulated engine: no containers, virtual time, scripted answers. For logic, never the only proof."""

from __future__ import annotations

from pytest_enclave.engine.simulated.behaviour import Behaviour, ScriptedImage, Timing, digest_of
from pytest_enclave.engine.simulated.clock import EPOCH, VirtualClock
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.engine.simulated.plain import script_of
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.engine.simulated.site import Call, SimulatedSite

__all__ = [
    "EPOCH",
    "Behaviour",
    "Call",
    "Script",
    "ScriptedImage",
    "SimulatedEngine",
    "SimulatedSite",
    "Timing",
    "VirtualClock",
    "digest_of",
    "script_of",
]
