"""The enclave plan: what has been executed in an enclave, with its results."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from pytest_enclave.plan.footprint import Footprint
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location


class Record(msgspec.Struct, frozen=True):
    """One instruction that succeeded in this enclave.

    `key` is the canonical text with the digests of everything that text only names (files, images): equal keys, equal
    instructions. `resolved` is the same with future references replaced; `values` what it produced, producer → field →
    value; `contents` the digest of each artifact it made; `services` the resolved config of each service it made;
    `images` the digest behind each image reference. `stale` says why its effect may not be there any more; empty while
    it is. `stale_by` is the position of the instruction whose doing that is, 0 where it is none's.
    """

    name: str
    text: str
    key: str
    resolved: str
    producer: str
    location: Location
    footprint: Footprint
    values: Mapping[str, Mapping[str, Value]] = msgspec.field(default_factory=dict)
    contents: Mapping[str, str] = msgspec.field(default_factory=dict)
    services: Mapping[str, Struct] = msgspec.field(default_factory=dict)
    images: Mapping[str, str] = msgspec.field(default_factory=dict)
    message: str = ""
    stale: str = ""
    stale_by: int = 0


class Before(msgspec.Struct, frozen=True):
    """What was recorded in the place of an instruction that ran again: its position, and the record.

    `key` is the instruction's own key, to be compared with the recorded one; `by` the record of what made this one
    stale, where an instruction did.
    """

    position: int
    record: Record
    key: str
    by: Record | None = None


class Parting(msgspec.Struct, frozen=True):
    """Where a plan parts from the enclave plan: its instruction there, and what is recorded instead.

    None for the instruction: all of them are recorded, but what is recorded later has changed what they stand for.
    """

    instruction: Instruction | None
    record: Record

    def __str__(self) -> str:
        old = self.record
        if self.instruction is None:
            return f"{old.name} at {old.location} has since changed what this plan asks for"
        new = self.instruction
        return f"{new.name} at {new.location} is not the {old.name} of {old.location} that ran here before"


class Outcome(Enum):
    """What became of an instruction in a run."""

    EXECUTED = "executed"
    UPDATED = "updated"
    SKIPPED = "skipped"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


class Step(msgspec.Struct, frozen=True):
    """An instruction as a run met it: outcome, duration in seconds, result in words, and why it ran or did not.

    Of one that ran, `resolved` is its canonical text with future references replaced, empty where that failed, and
    `before` what was recorded in its place, None for one that is new.
    """

    instruction: Instruction
    outcome: Outcome
    duration: float
    message: str = ""
    reason: str = ""
    resolved: str = ""
    before: Before | None = None

    @property
    def name(self) -> str:
        """The instruction's name."""
        return self.instruction.name

    @property
    def location(self) -> Location:
        """Where the instruction is called."""
        return self.instruction.location

    def __str__(self) -> str:
        return f"{self.outcome} {self.instruction.name} at {self.location}"


class Origin(msgspec.Struct, frozen=True):
    """Where a future reference's value came from: the field, its value, and the step that produced it."""

    field: str
    value: Value
    step: Step
