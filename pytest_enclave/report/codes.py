"""The stable number of every error: E1xx package, E2xx validation, E3xx execution, E4xx engine.

Numbers are never given to another error, and never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pytest_enclave import errors

CODES: Mapping[type[errors.EnclaveError], str] = MappingProxyType(
    {
        errors.EnclaveError: "E000",
        errors.PackageError: "E100",
        errors.InterpretationError: "E101",
        errors.ScriptFailed: "E102",
        errors.ExpectationFailed: "E103",
        errors.ValidationError: "E201",
        errors.ExecutionError: "E300",
        errors.VerifyFailed: "E301",
        errors.WaitTimedOut: "E302",
        errors.UnacceptableCode: "E303",
        errors.RecipeFailed: "E304",
        errors.RunTimedOut: "E305",
        errors.UnknownService: "E306",
        errors.ServiceError: "E310",
        errors.ServiceExited: "E311",
        errors.PortNeverOpened: "E312",
        errors.EngineError: "E400",
        errors.EngineUnavailable: "E401",
        errors.ImageUnavailable: "E402",
        errors.HalfStarted: "E403",
    }
)


def code_of(error: errors.EnclaveError) -> str:
    """The error's number; one of a class that is not in the table has its nearest base's."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
