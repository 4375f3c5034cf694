"""Services that have other addresses than when values were recorded: the same values, with the new addresses.

An address is replaced where it stands by itself: as a whole value, or in a text between characters that cannot be part
of it. `10.0.0.2:80` and `10.0.0.2.nip.io` hold the address 10.0.0.2; `10.0.0.21`, `110.0.0.2` and `10.0.0.2.1` do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from pytest_enclave.plan.facts import ServiceFact
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.values import Struct, Value

LONGEST_TEXT = 1 << 20
"""Bytes. Larger files are not looked through for addresses."""


class NewAddresses(msgspec.Struct, frozen=True):
    """Old address → new address, all replaced at once, so that addresses may have been exchanged; false where empty."""

    mapping: Mapping[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def between(cls, before: Mapping[str, ServiceFact], after: Mapping[str, ServiceFact]) -> NewAddresses:
        """What became of each service's address."""
        both = [(fact.ip_address, after[name].ip_address) for name, fact in before.items() if name in after]
        return cls({old: new for old, new in both if old and new and old != new})

    def __bool__(self) -> bool:
        return bool(self.mapping)

    def text(self, text: str) -> str:
        """The text with every old address in it replaced."""
        if not any(old in text for old in self.mapping):
            return text
        alternatives = "|".join(map(re.escape, self.mapping))
        return re.sub(rf"(?<![\w.])(?:{alternatives})(?!\w|\.\d)", lambda found: self.mapping[found[0]], text)

    def value(self, value: Value) -> Value:
        """The value with every old address in its texts replaced, also in keys."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, tuple):
            return tuple(self.value(item) for item in value)
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, Struct):
            return Struct(value.kind, {name: self.value(item) for name, item in value.fields.items()})
        return value

    def content(self, content: bytes) -> bytes:
        """A file's content with every old address in it replaced; that of a binary file stays."""
        if b"\0" in content:
            return content
        return self.text(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    def record(self, record: Record) -> Record:
        """The record with old addresses replaced in all that it has from its execution; what was written stays."""
        return replace(
            record,
            resolved=self.text(record.resolved),
            values={producer: self.value(dict(fields)) for producer, fields in record.values.items()},
            services={name: self.value(config) for name, config in record.services.items()},
            message=self.text(record.message),
        )
