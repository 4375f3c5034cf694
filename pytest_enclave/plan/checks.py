"""What an argument may be: small checks, put together into larger ones.

A `Check` looks at one value and yields what is wrong with it, each as `(path, reason)`: the path leads into the value
(`["http"]`, `[2]`, empty for the value itself), the reason says what was expected and what was found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from pytest_enclave.golang.duration import DurationError, parse
from pytest_enclave.plan.values import Struct, Value, find_opaque, quote, to_repr, type_name, with_article

Finding = tuple[str, str]


class Check(msgspec.Struct, frozen=True):
    """A named check: `expected` completes the sentence "must be …".

    `accepts` says whether there is nothing to find: nearly always so, and told without looking for what to say.
    """

    expected: str
    find: Callable[[Value], Iterator[Finding]]
    accepts: Callable[[Value], bool]

    def __call__(self, value: Value) -> Iterator[Finding]:
        return self.find(value)

    def mismatch(self, value: Value) -> Finding:
        """The finding for a value of the wrong type altogether."""
        return "", f"must be {self.expected}, not {_short(value)}"


def _short(value: Value) -> str:
    text = to_repr(value)
    shown = text if len(text) <= 60 else text[:57] + "…"
    return "None" if value is None else f"{shown} ({type_name(value)})"


def simple(expected: str, accepts: Callable[[Value], bool]) -> Check:
    """A check that a predicate decides."""

    def find(value: Value) -> Iterator[Finding]:
        if not accepts(value):
            yield check.mismatch(value)

    check = Check(expected, find, accepts)
    return check


def _plain(expected: str, accepts: Callable[[Value], bool]) -> Check:
    """A check that a predicate decides, of values without functions and the like anywhere inside."""

    def find(value: Value) -> Iterator[Finding]:
        if not accepts(value):
            yield check.mismatch(value)
        yield from ((path, check.mismatch(opaque)[1]) for path, opaque in find_opaque(value))

    check = Check(expected, find, lambda value: accepts(value) and next(find_opaque(value), None) is None)
    return check


def _is_int(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(low: int | None = None, high: int | None = None, unit: str = "") -> Check:
    """An int, in a closed range where bounds are given."""
    of = f" of {unit}" if unit else ""
    if low is not None and high is not None:
        expected = f"an integer{of} between {low} and {high}"
    else:
        expected = f"an integer{of}" + (f" of at least {low}" if low is not None else "")
    return simple(
        expected,
        lambda v: _is_int(v) and (low is None or v >= low) and (high is None or v <= high),
    )


def number(low: float, high: float) -> Check:
    """An int or a float in a closed range."""
    return simple(
        f"a number between {low:g} and {high:g}",
        lambda v: (_is_int(v) or isinstance(v, float)) and low <= v <= high,
    )


def matching(pattern: str, expected: str) -> Check:
    """A string that the regular expression matches as a whole."""
    # Compiled when it is first used: most plans have use for one or two of all there are.
    return simple(expected, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None)


def one_of(words: Sequence[str]) -> Check:
    """One of a few strings, spelt exactly so."""
    return simple("one of " + ", ".join(quote(word) for word in words), lambda v: v in words and isinstance(v, str))


def instance(*kinds: str) -> Check:
    """A value of one of the named types."""
    expected = with_article(kinds[0]) if len(kinds) == 1 else "one of " + ", ".join(kinds)
    return simple(expected, lambda v: isinstance(v, Struct) and v.kind in kinds)


def list_of(item: Check, *, non_empty: bool = False) -> Check:
    """A list whose items all pass."""

    def find(value: Value) -> Iterator[Finding]:
        if not isinstance(value, list) or (non_empty and not value):
            yield check.mismatch(value)
            return
        for index, element in enumerate(value):
            yield from ((f"[{index}]{path}", reason) for path, reason in item(element))

    def accepts(value: Value) -> bool:
        return isinstance(value, list) and all(map(item.accepts, value)) and not (non_empty and not value)

    several = item.expected.removeprefix("an ").removeprefix("a ") + "s"
    expected = f"a non-empty list of {several}" if non_empty else f"a list, each item {item.expected}"
    check = Check(expected, find, accepts)
    return check


def dict_of(item: Check, *, key: Check | None = None, non_empty: bool = False) -> Check:
    """A dict with string keys whose values all pass."""
    keys = key or STRING

    def find(value: Value) -> Iterator[Finding]:
        if not isinstance(value, dict) or (non_empty and not value):
            yield check.mismatch(value)
            return
        for name, element in value.items():
            yield from ((f" key {to_repr(name)}", reason) for _, reason in keys(name))
            yield from ((f"[{to_repr(name)}]{path}", reason) for path, reason in item(element))

    def accepts(value: Value) -> bool:
        return (
            isinstance(value, dict)
            and all(map(keys.accepts, value))
            and all(map(item.accepts, value.values()))
            and not (non_empty and not value)
        )

    expected = ("a non-empty dict" if non_empty else "a dict") + f", each value {item.expected}"
    check = Check(expected, find, accepts)
    return check


def optional(check: Check) -> Check:
    """None, or what the check accepts."""

    def find(value: Value) -> Iterator[Finding]:
        if value is not None:
            yield from ((path, reason.replace("must be ", "must be None or ", 1)) for path, reason in check(value))

    return Check(f"None or {check.expected}", find, lambda value: value is None or check.accepts(value))


def duration(*, positive: bool = False) -> Check:
    """Text in the form of Go's `time.Duration`, e.g. `500ms`, `1m30s`."""

    def find(value: Value) -> Iterator[Finding]:
        if not isinstance(value, str):
            yield check.mismatch(value)
            return
        try:
            nanoseconds = parse(value)
        except DurationError as error:
            yield "", f'{error} (write for example "500ms", "10s" or "1m30s")'
            return
        if nanoseconds < 0 or (positive and nanoseconds == 0):
            yield "", f"must be {'longer than zero' if positive else 'zero or longer'}, not {quote(value)}"

    check = Check("a duration such as `10s`", find, lambda value: next(find(value), None) is None)
    return check


def tuple_of(item: Check, length: int, expected: str) -> Check:
    """A tuple of so many items, which all pass."""

    def find(value: Value) -> Iterator[Finding]:
        if not isinstance(value, tuple) or len(value) != length:
            yield check.mismatch(value)
            return
        for index, element in enumerate(value):
            yield from ((f"[{index}]{path}", reason) for path, reason in item(element))

    check = Check(
        expected,
        find,
        lambda value: isinstance(value, tuple) and len(value) == length and all(map(item.accepts, value)),
    )
    return check


STRING = simple("a string", str.__instancecheck__)  # in lists and dicts, the function that takes the least time
NON_EMPTY_STRING = simple("a non-empty string", lambda v: isinstance(v, str) and v != "")
BOOL = simple("a bool", lambda v: isinstance(v, bool))
PRINTABLE = simple("any value", lambda v: True)
ANY = _plain("a value", lambda v: True)
COMPARABLE = _plain("a value that can be compared", lambda v: v is not None)
STRINGS = list_of(STRING)
NON_EMPTY_STRINGS = list_of(STRING, non_empty=True)
STRING_DICT = dict_of(STRING)
HEADER_NAME = matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "the name of an HTTP header (RFC 9110)")
HEADER_VALUE = matching(r"[^\0\r\n\u0100-\U0010ffff]*", "text in Latin-1 without line breaks or NUL")
