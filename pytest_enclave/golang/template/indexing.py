"""index, slice and len. Strings are bytes here: `index "é" 0` is 195. Raises `FunctionError` with Go's text."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.golang.template.budget import Budget
from pytest_enclave.golang.template.comparison import FunctionError
from pytest_enclave.golang.template.values import (
    NOTHING,
    Boxed,
    Byte,
    Slice,
    boxed,
    decode_bytes,
    encode_bytes,
    type_name,
    unboxed,
)  # fmt: skip

__all__ = ["index", "length", "slice_of"]


def length(value: object) -> int:
    """The number of elements, or of bytes in a string."""
    content = unboxed(value)
    if content is NOTHING:
        if isinstance(value, Boxed):
            raise FunctionError("len of nil pointer")
        raise FunctionError("reflect: call of reflect.Value.Type on zero Value")
    if isinstance(content, str):
        return len(encode_bytes(content))
    if isinstance(content, (Slice, dict)):
        return len(content)
    raise FunctionError(f"len of type {type_name(content)}")


def index(value: object, indexes: Sequence[object]) -> object:
    """`index x 1 "k"` is Go's `x[1]["k"]`; a missing key of a map gives a nil interface."""
    item: object = unboxed(value)
    if item is NOTHING:
        raise FunctionError("index of untyped nil")
    for at in map(unboxed, indexes):
        content = unboxed(item)
        if content is NOTHING:
            raise FunctionError("index of nil pointer")
        if isinstance(content, dict):
            item = boxed(content.get(_key(at)))
        elif isinstance(content, Slice):
            item = content[_inside(_position(at, len(content)), len(content), "slice")]
        elif isinstance(content, str):
            data = encode_bytes(content)
            item = Byte(data[_inside(_position(at, len(data)), len(data), "string")])
        else:
            raise FunctionError(f"can't index item of type {type_name(content)}")
    return item


def slice_of(value: object, indexes: Sequence[object], budget: Budget) -> object:
    """`slice x 1 2 3` is Go's `x[1:2:3]`; a list may be sliced up to its capacity."""
    content = unboxed(value)
    if content is NOTHING:
        raise FunctionError("slice of untyped nil")
    if len(indexes) > 3:
        raise FunctionError(f"too many slice indexes: {len(indexes)}")
    if isinstance(content, str):
        if len(indexes) == 3:
            raise FunctionError("cannot 3-index slice a string")
        budget.produce(len(content))
        data = encode_bytes(content)
        start, stop, _ = _bounds(indexes, len(data), len(data))
        return type(content)(decode_bytes(data[start:stop]))
    if isinstance(content, Slice):
        return content.window(*_bounds(indexes, len(content), content.capacity))
    raise FunctionError(f"can't slice item of type {type_name(content)}")


def _bounds(indexes: Sequence[object], size: int, capacity: int) -> tuple[int, int, int]:
    bounds = [0, size, capacity]
    for number, at in enumerate(indexes):
        bounds[number] = _position(at, capacity)
    if bounds[0] > bounds[1]:
        raise FunctionError(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    if len(indexes) == 3 and bounds[1] > bounds[2]:
        raise FunctionError(f"invalid slice index: {bounds[1]} > {bounds[2]}")
    return bounds[0], bounds[1], bounds[2]


def _position(at: object, limit: int) -> int:
    if at is NOTHING:
        raise FunctionError("cannot index slice/array with nil")
    if isinstance(at, bool) or not isinstance(at, int):
        raise FunctionError(f"cannot index slice/array with type {type_name(at)}")
    if not 0 <= at <= limit:
        raise FunctionError(f"index out of range: {at}")
    return at


def _inside(at: int, size: int, what: str) -> int:
    """The limit itself passes Go's own check, and is caught one layer below, in other words."""
    if at == size:
        raise FunctionError(f"reflect: {what} index out of range")
    return at


def _key(at: object) -> str:
    if at is NOTHING:
        raise FunctionError("value is nil; should be of type string")
    if type(at) is not str:
        raise FunctionError(f"value has type {type_name(at)}; should be string")
    return at
