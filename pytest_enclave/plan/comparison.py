"""The comparisons of `plan.assert`, `plan.wait` and ready conditions (behaviour.md §1.4)."""

from __future__ import annotations

import operator
from collections.abc import Callable

from pytest_enclave.plan.values import Struct, Value, to_short_repr, type_name, with_article

ORDERINGS: dict[str, Callable[[Value, Value], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
MEMBERSHIPS = ("IN", "NOT_IN")
ASSERTIONS = ("==", "!=", *ORDERINGS, *MEMBERSHIPS)

_ORDERED_TYPES = ("bool", "int", "float", "string", "list", "tuple")


class ComparisonError(ValueError):
    """The two values cannot be compared that way; the text says why."""


def equal(left: Value, right: Value) -> bool:
    """Equality by type and value, all the way down: `1` is not `1.0`, `True` is not `1`."""
    if type_name(left) != type_name(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, Struct):
        return equal(dict(left.fields), dict(right.fields))
    return bool(left == right)


def holds(value: Value, assertion: str, target: Value) -> bool:
    """Whether `value assertion target` holds.

    Raises ComparisonError where the types do not allow the question.
    """
    if assertion in MEMBERSHIPS:
        return _contains(target, value) == (assertion == "IN")
    if type_name(value) != type_name(target):
        ours, theirs = (with_article(type_name(side)) for side in (value, target))
        raise ComparisonError(
            f"{to_short_repr(value)} is {ours} and {to_short_repr(target)} {theirs}: "
            "values of different types are never compared"
        )
    if assertion in ("==", "!="):
        return equal(value, target) == (assertion == "==")
    if type_name(value) not in _ORDERED_TYPES:
        raise ComparisonError(f"values of type {type_name(value)} have no order, so `{assertion}` cannot be asked")
    try:
        return ORDERINGS[assertion](value, target)
    except TypeError:
        raise ComparisonError(
            f"the items of {to_short_repr(value)} and {to_short_repr(target)} have no common order"
        ) from None


def _contains(container: Value, value: Value) -> bool:
    if not isinstance(container, (list, tuple, dict)):
        raise ComparisonError(f"`IN` and `NOT_IN` need a list, not {to_short_repr(container)} ({type_name(container)})")
    return any(equal(item, value) for item in container)
