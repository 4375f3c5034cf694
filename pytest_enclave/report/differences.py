"""Where two values that are not equal begin to differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_enclave.plan.completion import complete
from pytest_enclave.plan.values import Opaque, Struct, Value, to_repr

MISSING = Opaque("missing", "missing")
"""What is where one of two values has nothing."""


def first_difference(value: Value, target: Value) -> tuple[str, Value, Value] | None:
    """The path to the first difference inside two values, and what is there in each.

    Fields of typed values that were not given are their defaults. None where there is nothing to go into: the values
    are of different kinds, or lists of different lengths.
    """
    found = _first(value, target, "")
    return found if found is not None and found[0] else None


def _first(value: Value, target: Value, path: str) -> tuple[str, Value, Value] | None:
    if isinstance(value, Struct) and isinstance(target, Struct) and value.kind == target.kind:
        if value.kind == "struct":
            inside = _of_mappings(value.fields, target.fields, path, ".{}".format)
        else:
            inside = _of_typed(value, target, path)
    elif isinstance(value, dict) and isinstance(target, dict):
        inside = _of_mappings(value, target, path, lambda key: f"[{to_repr(key)}]")
    elif isinstance(value, (list, tuple)) and type(value) is type(target) and len(value) == len(target):
        pairs = (_first(a, b, f"{path}[{index}]") for index, (a, b) in enumerate(zip(value, target, strict=True)))
        inside = next((found for found in pairs if found is not None), None)
    else:
        return None if type(value) is type(target) and value == target else (path, value, target)
    return inside


def _of_typed(value: Struct, target: Struct, path: str) -> tuple[str, Value, Value] | None:
    """The first field that differs once both have all; what was given for it is told as it was given."""
    ours, theirs = complete(value).fields, complete(target).fields
    for name in ours:
        step = f"{path}.{name}"
        if name not in theirs:
            return step, ours[name], MISSING
        found = _first(ours[name], theirs[name], step)
        if found is not None:
            given = _first(value.get(name, ours[name]), target.get(name, theirs[name]), step)
            return given if given is not None and found[0].startswith(given[0]) else found
    return next(((f"{path}.{name}", MISSING, theirs[name]) for name in theirs if name not in ours), None)


def _of_mappings(
    value: Mapping[Value, Value], target: Mapping[Value, Value], path: str, step: Callable[[Value], str]
) -> tuple[str, Value, Value] | None:
    lacking = [key for key in (*target, *value) if (key in value) != (key in target)]
    if lacking:
        return (path + step(lacking[0]), value.get(lacking[0], MISSING), target.get(lacking[0], MISSING))
    pairs = (_first(value[key], target[key], path + step(key)) for key in value)
    return next((found for found in pairs if found is not None), None)
