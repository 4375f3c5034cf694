"""What a run tells while it goes: one stream of frozen values; the report room turns them into lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pytest_enclave.errors import Problem
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Step


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase of the pipeline began: `interpreting`, `validating`, `executing` …"""

    phase: str
    instructions: int = 0


@dataclass(frozen=True, slots=True)
class ImageProgress:
    """A pull goes on. Bytes; `total` is 0 while it is not known; `done` means that the image is there."""

    image: str
    current: int
    total: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """The build of an image is at the `step`-th (from 1) of `steps`, or `done`, after so many seconds."""

    image: str
    step: int
    steps: int
    done: bool = False
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class InstructionStarted:
    """The `number`-th (from 1) of `total` instructions begins."""

    instruction: Instruction
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """An instruction waits for something, e.g. `api: port http (8080/TCP) to open`."""

    what: str


@dataclass(frozen=True, slots=True)
class Printed:
    """`plan.print` has something to say."""

    text: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """An instruction was executed, updated, skipped, or failed."""

    step: Step
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something users should know that stops nothing."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Frozen:
    """An enclave is now what forks of it begin with; its services were stopped and started for that. Seconds."""

    enclave: str
    duration: float


@dataclass(frozen=True, slots=True)
class Forked:
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
