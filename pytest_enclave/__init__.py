"""Environment-as-code testing for pytest. What test code may import; everything is loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.enclave.service import Port, Service
    from pytest_enclave.engine.simulated import Script, SimulatedEngine
    from pytest_enclave.errors import (
        EnclaveError,
        EngineError,
        EngineUnavailable,
        ExecutionError,
        ExpectationFailed,
        ImageUnavailable,
        InterpretationError,
        PackageError,
        PortNeverOpened,
        RecipeFailed,
        RunTimedOut,
        ScriptFailed,
        ServiceError,
        ServiceExited,
        UnacceptableCode,
        UnknownService,
        ValidationError,
        VerifyFailed,
        WaitTimedOut,
    )
    from pytest_enclave.package.package import Source
    from pytest_enclave.plan.instruction import Plan
    from pytest_enclave.run.outcome import Run
    from pytest_enclave.run.without_engine import interpret

__all__ = [
    "Enclave",
    "EnclaveError",
    "EngineError",
    "EngineUnavailable",
    "ExecutionError",
    "ExpectationFailed",
    "ImageUnavailable",
    "InterpretationError",
    "PackageError",
    "Plan",
    "Port",
    "PortNeverOpened",
    "RecipeFailed",
    "Run",
    "RunTimedOut",
    "Script",
    "ScriptFailed",
    "Service",
    "ServiceError",
    "ServiceExited",
    "SimulatedEngine",
    "Source",
    "UnacceptableCode",
    "UnknownService",
    "ValidationError",
    "VerifyFailed",
    "WaitTimedOut",
    "interpret",
]

_HOMES = {
    "Enclave": "enclave.enclave",
    "Plan": "plan.instruction",
    "Port": "enclave.service",
    "Run": "run.outcome",
    "Script": "engine.simulated",
    "Service": "enclave.service",
    "SimulatedEngine": "engine.simulated",
    "Source": "package.package",
    "interpret": "run.without_engine",
}


def __getattr__(name: str) -> object:
    """Load a public name from where it lives; what `_HOMES` does not list is an error class."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
