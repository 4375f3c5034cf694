"""The canonical string of a call: what is shown, and what equality means (behaviour.md §1.0, design §4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Struct, Value, to_canonical

_HIDDEN = ("description", "username", "password")
"""Fields of typed values that do not belong to their identity: as whom an image is pulled changes nothing about it."""


def identity_text(value: Value, known: Mapping[int, str]) -> str:
    """The canonical text of a value without descriptions; `known` has such texts of typed values, by their `id`."""
    return to_canonical(value, _HIDDEN, known)


def call_text(
    name: str, parameters: Iterable[Parameter], arguments: Mapping[str, Value], known: Mapping[int, str] | None = None
) -> str:
    """`name(argument=value, …)`, in declared order, without what does not belong to an instruction's identity.

    `known` are texts that `identity_text` gave before, by the `id` of the typed value.
    """
    texts = known or {}
    shown = [
        f"{parameter.name}={to_canonical(arguments[parameter.name], _HIDDEN, texts)}"
        for parameter in parameters
        if parameter.identity and parameter.name in arguments
    ]
    return f"{name}({', '.join(shown)})"


def without_descriptions(value: Value) -> Value:
    """The value with the `description` of every typed value inside it left out."""
    if isinstance(value, Struct):
        hidden = () if value.kind == "struct" else _HIDDEN
        return Struct(
            value.kind, {n: without_descriptions(item) for n, item in value.fields.items() if n not in hidden}
        )
    if isinstance(value, list):
        return [without_descriptions(item) for item in value]
    if isinstance(value, tuple):
        return tuple(without_descriptions(item) for item in value)
    if isinstance(value, dict):
        return {key: without_descriptions(item) for key, item in value.items()}
    return value
