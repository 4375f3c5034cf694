"""The values a template handles, as Go types on Python ones.

| Go                       | here                                                              |
|--------------------------|-------------------------------------------------------------------|
| nil (no value at all)    | `NOTHING`: a missing key, a nil that was passed on                 |
| interface{} holding x    | `Boxed(x)`: what a list or a map holds; it matters for error texts |
| nil interface{}          | `Boxed(None)` as an element, `None` as an argument                 |
| bool, float64, complex   | bool, float, complex                                               |
| int / int64 / uint8      | int / `Int64` / `Byte`                                             |
| string / json.Number     | str / `Number`                                                     |
| []interface{} / map      | `Slice` / dict                                                     |

Go's strings are bytes. They are held as Python strings in which a byte that is not UTF-8 is a lone surrogate
(`surrogateescape`), so one character is one Go rune and encoding gives back the exact bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

__all__ = [
    "NOTHING", "Boxed", "Byte", "Int64", "Nothing", "Number", "Slice",
    "boxed", "decode_bytes", "encode_bytes", "is_true", "type_name", "unboxed",
]  # fmt: skip


class Number(str):
    """Go's json.Number: a number as it is written, of kind string, with methods Int64, Float64 and String."""

    __slots__ = ()


class Int64(int):
    """An int64; plain `int` stands for Go's `int`."""

    __slots__ = ()


class Byte(int):
    """A uint8: what indexing a string gives."""

    __slots__ = ()


class Nothing(msgspec.Struct, frozen=True):
    """The type of `NOTHING`."""


NOTHING = Nothing()
"""Go's zero reflect.Value: not even a nil."""


class Boxed(msgspec.Struct, frozen=True):
    """A value whose static type is interface{}; `content` None is a nil interface."""

    content: object


class Slice(msgspec.Struct, frozen=True):
    """A window on a JSON array. `capacity` counts from `start`: Go lets a slice grow back into it."""

    array: Sequence[object]
    start: int
    length: int
    capacity: int

    @staticmethod
    def of(array: Sequence[object]) -> Slice:
        """The whole array, with the spare room that Go's append leaves: up to the next power of two.

        (Beyond 512 elements Go grows by other steps; no spare room is assumed there.)
        """
        length = len(array)
        capacity = 1 << (length - 1).bit_length() if 0 < length <= 512 else length
        return Slice(array, 0, length, capacity)

    def window(self, start: int, stop: int, capacity_stop: int) -> Slice:
        """`slice[start:stop:capacity_stop]`; the caller has checked the bounds."""
        return Slice(self.array, self.start + start, stop - start, capacity_stop - start)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Boxed:
        at = self.start + index
        return boxed(self.array[at] if at < len(self.array) else None)

    def __iter__(self) -> Iterator[Boxed]:
        return map(self.__getitem__, range(self.length))


def boxed(content: object) -> Boxed:
    """An element of a list or map, as Go hands it out; a JSON array becomes a `Slice` here, when it is reached."""
    return Boxed(Slice.of(content) if isinstance(content, list) else content)


def unboxed(value: object) -> object:
    """What is inside a box; `NOTHING` for a nil interface. Other values as they are."""
    if isinstance(value, Boxed):
        return NOTHING if value.content is None else value.content
    return value


def type_name(value: object) -> str:
    """Go's name of a value's type. `NOTHING` has none; the caller must not ask."""
    if isinstance(value, Boxed):
        return "interface {}"
    return _TYPE_NAMES[type(value)]


_TYPE_NAMES = {
    bool: "bool", int: "int", Int64: "int64", Byte: "uint8", float: "float64", complex: "complex128",
    str: "string", Number: "json.Number", Slice: "[]interface {}", dict: "map[string]interface {}",
}  # fmt: skip


def is_true(value: object) -> bool:
    """Go's truth: everything but false, 0, "", an empty list or map, and nil. A `Number` is a string: "0" is true."""
    return bool(unboxed(value)) and value is not NOTHING and unboxed(value) is not NOTHING


def encode_bytes(text: str) -> bytes:
    """The bytes of a Go string."""
    return text.encode("utf-8", "surrogateescape")


def decode_bytes(data: bytes) -> str:
    """A Go string from its bytes; `encode_bytes` undoes it."""
    return data.decode("utf-8", "surrogateescape")
