"""Hooks that other plugins and `conftest.py` files may implement.

They are pluggy hooks like pytest's own: a function of the same name in a `conftest.py` is found and called, and may
leave out arguments that it does not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.engine.protocol import Engine
    from pytest_enclave.errors import EnclaveError
    from pytest_enclave.instructions.protocol import InstructionType
    from pytest_enclave.plan.instruction import Plan
    from pytest_enclave.plan.record import Step
    from pytest_enclave.run.outcome import Run


@pytest.hookspec(firstresult=True)
def pytest_enclave_engine(config: pytest.Config) -> Engine | None:
    """Choose the engine that services run on; None leaves the choice to `--enclave-engine`.

    Called once, when the first enclave is needed. Whatever implements `pytest_enclave.engine.protocol.Engine` will do,
    for example a `SimulatedEngine` with a script of its own.
    """


@pytest.hookspec(firstresult=True)
def pytest_enclave_resolve(locator: str, config: pytest.Config) -> Path | None:
    """Say where the content of an absolute locator (`github.com/author/repo/path`) lies on this machine.

    Called when a package imports, reads or uploads something of another repository, or is itself named by a locator,
    before anything is fetched; None means "not known to me". A version stands at the locator's end, `…/path@version`.
    """


@pytest.hookspec
def pytest_enclave_instructions(config: pytest.Config) -> Sequence[InstructionType]:  # type: ignore[empty-body]
    """Add instruction types: each becomes a function of the `plan` object.

    Called once, when the first enclave is needed. One with the name of a built-in instruction takes its place.
    """


@pytest.hookspec
def pytest_enclave_before_execute(enclave: Enclave, plan: Plan) -> None:
    """See a plan that was interpreted for an enclave, before anything of it executes.

    Raising an error keeps the plan from executing.
    """


@pytest.hookspec
def pytest_enclave_instruction(enclave: Enclave, step: Step) -> None:
    """See what became of an instruction: `step.outcome` is executed, updated, skipped or failed."""


@pytest.hookspec
def pytest_enclave_ready(enclave: Enclave, run: Run) -> None:
    """A run has ended well: everything its package asks for is there.

    What is done to services here is there in forks of the enclave, too, for which this is not called again.
    """


@pytest.hookspec
def pytest_enclave_forked(enclave: Enclave, origin: str) -> None:
    """A fork is up, and about to be given to a test; `origin` is the name of the enclave that it is a copy of."""


@pytest.hookspec
def pytest_enclave_teardown(enclave: Enclave) -> None:
    """An enclave is about to go: its services still run, for the last time."""


@pytest.hookspec
def pytest_enclave_failure_sections(  # type: ignore[empty-body]
    enclave: Enclave, error: EnclaveError | None
) -> Sequence[tuple[str, str]]:
    """Further sections, as `(title, text)`, for the report of a failing test that used the enclave.

    `error` is the error of this package that failed the test, None where the test failed by itself.
    """
