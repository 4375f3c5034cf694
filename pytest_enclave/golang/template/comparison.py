"""eq, ne, lt, le, gt, ge.

Values are compared only within one basic kind: a `Number` is a string here, and int and float never meet.
Raises `FunctionError` with Go's text.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.golang.template.budget import Budget
from pytest_enclave.golang.template.formatting import sprintf
from pytest_enclave.golang.template.values import NOTHING, encode_bytes, type_name, unboxed

__all__ = ["FunctionError", "equal", "less"]


class FunctionError(Exception):
    """A function refuses its arguments; the message is Go's, without the place."""


def equal(first: object, others: Sequence[object], budget: Budget) -> bool:
    """Whether `first` equals one of `others`; those after it are not looked at."""
    first = unboxed(first)
    if not others:
        raise FunctionError("missing argument for comparison")
    return any(_equal_two(first, unboxed(other), budget) for other in others)


def less(first: object, second: object) -> bool:
    """Whether `first` is less than `second`; both are numbers of one kind or strings (compared by their bytes)."""
    first, second = unboxed(first), unboxed(second)
    kind = _basic_kind(first)
    other_kind = _basic_kind(second)
    if kind is None or other_kind is None:
        raise FunctionError("invalid type for comparison")
    if kind != other_kind:
        raise _incompatible(first, second)
    if isinstance(first, str) and isinstance(second, str):
        return encode_bytes(first) < encode_bytes(second)
    if isinstance(first, (int, float)) and isinstance(second, (int, float)) and kind != "bool":
        return first < second
    raise FunctionError("invalid type for comparison")


def _equal_two(first: object, second: object, budget: Budget) -> bool:
    kind, other_kind = _basic_kind(first), _basic_kind(second)
    if kind != other_kind:
        if first is NOTHING or second is NOTHING:
            return False
        raise _incompatible(first, second)
    if kind is not None:
        return first == second
    if first is NOTHING or second is NOTHING:
        return first is second
    name, other_name = type_name(first), type_name(second)
    if name != other_name:
        message = f"non-comparable types %s: {name}, {other_name}: %v"
        raise FunctionError(sprintf(message, [first, second], budget))
    raise FunctionError(sprintf(f"non-comparable type %s: {other_name}", [second], budget))


def _basic_kind(value: object) -> str | None:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, complex):
        return "complex"
    return "string" if isinstance(value, str) else None


def _incompatible(first: object, second: object) -> FunctionError:
    return FunctionError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")
