"""Replacing future references in an instruction's arguments, exactly where behaviour.md §4.2 says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.futures import Values, substitute_deep, substitute_typed
from pytest_enclave.plan.parameters import Parameter, Substitution
from pytest_enclave.plan.values import Struct, Value


def resolve_arguments(
    parameters: Sequence[Parameter], arguments: Mapping[str, Value], values: Values
) -> dict[str, Value]:
    """The arguments with their references replaced, each in its declared mode.

    Raises `futures.UnknownFuture` where a reference stands for nothing.
    """
    modes = {parameter.name: parameter.substitution for parameter in parameters}
    return {name: _resolve(value, modes.get(name, Substitution.NONE), values) for name, value in arguments.items()}


def _resolve(value: Value, mode: Substitution, values: Values) -> Value:
    if mode is Substitution.TYPED:
        return substitute_typed(value, values) if isinstance(value, str) else value
    if mode is Substitution.TEXT:
        return substitute_deep(value, values)
    return _resolve_within(value, values)


def _resolve_within(value: Value, values: Values) -> Value:
    """Typed values inside an argument follow the modes that their own fields declare."""
    if isinstance(value, Struct) and value.kind in CONFIG_TYPES:
        return Struct(value.kind, resolve_arguments(CONFIG_TYPES[value.kind].fields, value.fields, values))
    if isinstance(value, dict):
        return {key: _resolve_within(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve_within(item, values) for item in value]
    return value
