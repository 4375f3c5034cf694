"""What a run tells while it goes: one stream of frozen values; the report room turns them into lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from pytest_enclave.errors import Problem
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Step


class PhaseStarted(msgspec.Struct, frozen=True):
    """A phase of the pipeline began: `interpreting`, `validating`, `executing` …"""

    phase: str
    instructions: int = 0


class ImageProgress(msgspec.Struct, frozen=True):
    """A pull goes on. Bytes; `total` is 0 while it is not known; `done` means that the image is there."""

    image: str
    current: int
    total: int
    done: bool = False


class BuildProgress(msgspec.Struct, frozen=True):
    """The build of an image is at the `step`-th (from 1) of `steps`, or `done`, after so many seconds."""

    image: str
    step: int
    steps: int
    done: bool = False
    duration: float = 0.0


class InstructionStarted(msgspec.Struct, frozen=True):
    """The `number`-th (from 1) of `total` instructions begins."""

    instruction: Instruction
    number: int
    total: int


class Waiting(msgspec.Struct, frozen=True):
    """An instruction waits for something, e.g. `api: port http (8080/TCP) to open`."""

    what: str


class Printed(msgspec.Struct, frozen=True):
    """`plan.print` has something to say."""

    text: str


class StepFinished(msgspec.Struct, frozen=True):
    """An instruction was executed, updated, skipped, or failed."""

    step: Step
    number: int
    total: int


class Warned(msgspec.Struct, frozen=True):
    """Something users should know that stops nothing."""

    problem: Problem


class Frozen(msgspec.Struct, frozen=True):
    """An enclave is now what forks of it begin with; its services were stopped and started for that. Seconds."""

    enclave: str
    duration: float


class Forked(msgspec.Struct, frozen=True):
    """An enclave began as a copy of another one, its origin. Seconds."""

    enclave: str
    origin: str
    duration: float


Event: TypeAlias = (
    "PhaseStarted | ImageProgress | BuildProgress | InstructionStarted | Waiting | Printed | StepFinished | Warned "
    "| Frozen | Forked"
)
Emit: TypeAlias = Callable[[Event], None]


def silent(_: Event) -> None:
    """Tells nobody."""
