"""The enclave plan: what has been executed in an enclave, with its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pytest_enclave.plan.footprint import Footprint
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location


@dataclass(frozen=True, slots=True)
class Record:
    """One instruction that succeeded in this enclave.

    `key` is the canonical text with the digests of everything that text only names (files, images): equal keys, equal
    instructions. `resolved` is the same with future references replaced; `values` what it produced, producer → field →
    value; `contents` the digest of each artifact it made; `services` the resolved config of each service it made;
    `images` the digest behind each image reference. `stale` says why its effect may not be there any more; empty while
    it is.
    """

    name: str
    text: str
    key: str
    resolved: str
    producer: str
    location: Location
    footprint: Footprint
    values: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Struct] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    stale: str = ""


class Outcome(Enum):
    """What became of an instruction in a run."""

    EXECUTED = "executed"
    UPDATED = "updated"
    SKIPPED = "skipped"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction as a run met it: outcome, duration in seconds, result in words, and why it ran or did not."""

    instruction: Instruction
    outcome: Outcome
    duration: float
    message: str = ""
    reason: str = ""

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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a future reference's value came from: the field, its value, and the step that produced it."""

    field: str
    value: Value
    step: Step
