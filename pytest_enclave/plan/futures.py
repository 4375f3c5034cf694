"""Future references: texts that stand for values which exist only after execution.

A script gets `{{kurtosis:<32 hex digits>:<field>.runtime_value}}` and may build it into other texts. The digits are
the *producer's* name, not a random number: services are known by their name, every other producer by a digest of its
canonical text and its ordinal among equal ones. So the same source gives the same text, run after run (design §4.1).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

import msgspec

from pytest_enclave.plan.values import Struct, Value, to_text

_PATTERN = re.compile(r"\{\{kurtosis:([a-f0-9]{32}):([a-zA-Z0-9\-_.]+?)\.runtime_value\}\}")

Values = Mapping[str, Mapping[str, Value]]
"""Producer → field → value: what execution has found out so far."""


class Future(msgspec.Struct, frozen=True, gc=False):
    """One reference: the producer's 32 hex digits, and the field of its result."""

    producer: str
    field: str

    def __str__(self) -> str:
        return reference(self.producer, self.field)


class UnknownFuture(LookupError):
    """A text refers to a value that no executed instruction has produced."""

    def __init__(self, future: Future) -> None:
        super().__init__(
            f"the value `{future.field}` it refers to does not exist: "
            "the instruction that produces it did not run in this enclave"
        )
        self.future = future


def reference(producer: str, field: str) -> str:
    """The text that stands for a field of what a producer finds out."""
    return f"{{{{kurtosis:{producer}:{field}.runtime_value}}}}"


def producer_of_service(name: str) -> str:
    """The producer digits of a service: the same wherever and whenever it is added."""
    return _digits(f"service:{name}")


def producer_of_call(canonical: str, ordinal: int) -> str:
    """The producer digits of the n-th (from 0) of equal calls."""
    return _digits(f"call:{ordinal}:{canonical}")


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def find(value: Value) -> Iterator[Future]:
    """All references anywhere inside the value, in reading order."""
    if isinstance(value, str):
        for match in _PATTERN.finditer(value):
            yield Future(match[1], match[2])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from find(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find(key)
            yield from find(item)
    elif isinstance(value, Struct):
        for item in value.fields.values():
            yield from find(item)


def look_up(future: Future, values: Values) -> Value:
    """The value behind a reference.

    Raises UnknownFuture where nothing produced it.
    """
    try:
        return values[future.producer][future.field]
    except KeyError:
        raise UnknownFuture(future) from None


def substitute_text(text: str, values: Values) -> str:
    """The text with every reference replaced by its value's text."""
    return _PATTERN.sub(lambda match: to_text(look_up(Future(match[1], match[2]), values)), text)


def substitute_typed(text: str, values: Values) -> Value:
    """The value itself where the text is exactly one reference, else the text with its references replaced."""
    match = _PATTERN.fullmatch(text)
    return look_up(Future(match[1], match[2]), values) if match else substitute_text(text, values)


def substitute_deep(value: Value, values: Values, *, keys: bool = False) -> Value:
    """All texts inside the value, each substituted textually; dict keys only if `keys` says so."""

    def within(item: Value) -> Value:
        return substitute_deep(item, values, keys=keys)

    if isinstance(value, str):
        return substitute_text(value, values)
    if isinstance(value, list):
        return [within(item) for item in value]
    if isinstance(value, tuple):
        return tuple(within(item) for item in value)
    if isinstance(value, dict):
        return {within(key) if keys else key: within(item) for key, item in value.items()}
    if isinstance(value, Struct):
        return Struct(value.kind, {name: within(item) for name, item in value.fields.items()})
    return value
