"""A place to run packages on a simulated engine, without containers and without waiting."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.package.package import Source
from pytest_enclave.plan.events import Event
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.outcome import Run
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.pipeline import run as run_pipeline
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal


@dataclass
class Laboratory:
    """One simulated enclave that packages can be run in, and all that was told meanwhile."""

    state: EnclaveState
    tools: Tools
    options: Options = field(default_factory=lambda: Options(seed=1))
    events: list[Event] = field(default_factory=list)
    latest: Run | None = None

    def run(self, body: str | Path | Source, args: Any = None, main: str = "run") -> Run:
        """Run a package; text is the body of `run(plan)` unless it defines functions itself."""
        package = Source(as_script(body)) if isinstance(body, str) else body
        request = Request.of(package, args, main)
        self.latest = run_pipeline(
            request, self.state, self.tools, self.options, self.events.append, lambda plan: None, latest=self.latest
        )
        return self.latest

    def ok(self, body: str | Path | Source, args: Any = None, main: str = "run") -> Run:
        """As `run`, for a run that must end well."""
        finished = self.run(body, args, main)
        if finished.error is not None:
            raise finished.error
        return finished

    def error(self, body: str | Path | Source, args: Any = None, main: str = "run") -> Any:
        """As `run`, for one that must fail: its error."""
        finished = self.run(body, args, main)
        assert finished.error is not None, "the run was expected to fail"
        return finished.error

    def outcomes(self, body: str | Path | Source, args: Any = None) -> list[str]:
        """The outcome of every instruction of a run that ends well."""
        return [str(step.outcome) for step in self.ok(body, args).instructions]

    def elsewhere(self) -> Laboratory:
        """The same enclave as another process has it: a journal and an artifact store of its own over the same files.

        Whoever gets it closes its journal.
        """
        journal = Journal(self.state.journal._path)
        artifacts = ArtifactStore(self.state.artifacts._root, journal)
        state = structs.replace(self.state, journal=journal, artifacts=artifacts)
        return replace(self, state=state, events=[], latest=None)

    @property
    def engine(self) -> SimulatedEngine:
        """The simulated engine."""
        assert isinstance(self.state.engine, SimulatedEngine)
        return self.state.engine

    @property
    def kept(self) -> list[str]:
        """The names of the instructions in the enclave plan."""
        return [record.name for record in self.state.journal.records.values()]

    def enclave(self) -> Enclave:
        """The enclave as users hold it."""
        nobody = Observers(lambda e, _: None, lambda e, _: None, lambda e, _: None, lambda e: None)
        return Enclave(self.state, self.tools, self.options, nobody)


def as_script(body: str) -> str:
    """A whole script from the statements of its `run` function."""
    if "def " in body:
        return body
    return "def run(plan):\n" + "".join(f"    {line}\n" for line in body.strip().splitlines())
