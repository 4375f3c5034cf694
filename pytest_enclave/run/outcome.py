"""What a run came to."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from pytest_enclave.errors import EnclaveError
from pytest_enclave.plan.facts import Facts
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.record import Outcome, Parting, Step
from pytest_enclave.plan.values import Value


class Run(msgspec.Struct, frozen=True):
    """A finished run: its steps in plan order, what the main function returned, and the error that ended it, if any.

    `output` is plain Python: structs are dicts, future references are replaced by their values. `mismatch` says why
    nothing was reused, where the enclave had run another plan before, and `parting` where the two part; `recorded` is
    how many instructions the enclave plan had before. `duration` is in seconds.
    """

    plan: Plan
    instructions: tuple[Step, ...] = ()
    output: Value = None
    error: EnclaveError | None = None
    mismatch: str = ""
    duration: float = 0.0
    parting: Parting | None = None
    recorded: int = 0
    facts: Facts | None = None
    revision: int = 0

    def count(self, *outcomes: Outcome) -> int:
        """How many instructions had one of these outcomes."""
        return sum(step.outcome in outcomes for step in self.instructions)

    @property
    def executed(self) -> int:
        """How many instructions were executed or updated."""
        return self.count(Outcome.EXECUTED, Outcome.UPDATED)

    @property
    def skipped(self) -> int:
        """How many instructions were reused."""
        return self.count(Outcome.SKIPPED)

    def holds(self, plan: Plan, facts: Facts, revision: int) -> bool:
        """Whether a run of this plan comes to the same: there was nothing to do, and all that counts is as it was."""
        return self.is_settled and self.plan is plan and self.revision == revision and self.facts == facts

    @property
    def is_settled(self) -> bool:
        """Whether there was nothing to do."""
        return self.error is None and self.skipped == len(self.instructions)

    def again(self, duration: float) -> Run:
        """The same, as a run that took this long."""
        return replace(self, duration=duration)
