"""The faults of one enclave that a test has begun, and how they end.

While there is a fault, the test holds the enclave (`turns.py`): no other test meets it. Each fault is healed once: at
the end of its `with`, or by the end of the test, whatever ended that. A file in the enclave's home, the *mark*, is
there from before the first fault until after the last, so that it tells of processes that were killed in between.
Whoever uses an enclave with a mark, in which there is no fault, makes it what its enclave plan says.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_enclave.enclave.fault import Fault, Kind
from pytest_enclave.enclave.service import start_again
from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import EnclaveError, ExecutionError, ServiceError, UnknownService
from pytest_enclave.plan.facts import Status

if TYPE_CHECKING:
    from pytest_enclave.enclave.turns import Turns, Undisputed
    from pytest_enclave.run.state import EnclaveState

MARK = "faults"
"""The file in the home of an enclave that has faults: the services among them, as JSON."""

_AT_REST = (Status.STOPPED, Status.EXITED)

_DOWN: dict[Kind, Action] = {"kill": Action.KILL, "stop": Action.STOP}
"""What brings a service down, by the kind of fault."""


class LiveFault:
    """A fault that is in effect until its `with` ends, until `heal` is called, or until the test is over.

    `began` and `ended` are in seconds since the epoch, `ended` is None while it is in effect; `failed` tells whether an
    exception has ended its `with`.
    """

    def __init__(self, fault: Fault, faults: Faults) -> None:
        self.fault = fault
        self.began = faults.wall()
        self.ended: float | None = None
        self.failed = False
        self._faults = faults
        self._entered = False

    def __repr__(self) -> str:
        return f"<LiveFault {self.fault}{'' if self.ended is None else ', healed'}>"

    def heal(self) -> None:
        """End it, if it has not ended. What other faults do stays in effect. Raises what keeps it from ending."""
        __tracebackhide__ = True
        self._faults.end(self)

    def __enter__(self) -> LiveFault:
        if self._entered or self.ended is not None:
            state = "is healed" if self.ended is not None else "has its `with` already"
            raise RuntimeError(f"the fault {self.fault} {state}: begin it anew")
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.failed = error is not None and self.ended is None
        self.heal()


class Faults:
    """The faults of an enclave that are in effect, oldest first. `told` are all of the running test.

    Safe with several threads: `lock` is that of the enclave.
    """

    def __init__(self, state: EnclaveState, turns: Turns | Undisputed, lock: threading.RLock, seed: int) -> None:
        self.told: list[LiveFault] = []
        self._state = state
        self._turns = turns
        self._lock = lock
        self._seed = seed
        self._live: list[LiveFault] = []

    def __len__(self) -> int:
        return len(self._live)

    def wall(self) -> float:
        """Now, on the clock that stamps log lines."""
        return self._state.engine.clock.wall()

    def begin(self, fault: Fault) -> LiveFault:
        """Have a fault in effect when this returns. Raises UnknownService, ServiceError and EngineError."""
        __tracebackhide__ = True
        self._check_known(fault)
        live = LiveFault(fault, self)
        with self._lock:
            try:
                if not self._live:
                    self._turns.hold()
                    # Others may have run something in it since this test was given it.
                    self._state.refresh()
                    self._check_known(fault)
                self._check_running(fault)
                # An interrupt may come at any moment: what is listed is ended in any case.
                self._live.append(live)
            except BaseException:
                if not self._live:
                    self._turns.let_go()
                raise
            try:
                self._mark(self._live)
                self._establish(self._live, fault.services if fault.is_of_services else ())
            except BaseException:
                self._end(live)
                raise
            live.began = self.wall()
            self.told.append(live)
        return live

    def end(self, live: LiveFault) -> None:
        """End a fault, if it has not ended."""
        __tracebackhide__ = True
        with self._lock:
            if live in self._live:
                self._end(live)

    def end_all(self) -> None:
        """The test is over. Where something cannot be healed, the next who uses the enclave tries again."""
        with self._lock:
            broken = self._broken(self._live)
            for live in self._live:
                live.ended = self.wall()
            try:
                if self._live:
                    self._establish((), broken)
                    self._mark(())
            finally:
                self._live, self.told = [], []
                self._state.faults.clear()
                self._turns.let_go()

    def go_on(self) -> None:
        """After a run: what it has started again is broken as before."""
        with self._lock:
            if self._live:
                self._establish(self._live, self._broken(self._live))

    def recover(self) -> None:
        """Heal what a process that was killed has left. For whoever has the enclave alone."""
        with self._lock:
            path = self._path
            if self._live or path is None or not path.exists():
                return
            self._state.site.refresh()
            # What does not start is left to the next run, which replaces it.
            with suppress(ExecutionError):
                self._establish((), json.loads(path.read_text("utf-8")))
            self._mark(())

    def _end(self, live: LiveFault) -> None:
        rest = [other for other in self._live if other is not live]
        self._establish(rest, live.fault.services if live.fault.is_of_services else ())
        live.ended = self.wall()
        self._live = rest
        self._mark(rest)
        if not rest:
            self._turns.let_go()

    # what is in effect

    def _establish(self, live: Sequence[LiveFault], services: Iterable[str]) -> None:
        """Have exactly these faults in effect in the network, and for these services.

        All is tried; raises the first error at the end.
        """
        __tracebackhide__ = True
        errors = []
        self._state.faults[:] = [each.fault.connections() for each in live if not each.fault.is_of_services]
        try:
            self._shape()
        except EnclaveError as error:
            errors.append(error)
        for name in services:
            try:
                self._bring(name, [each.fault.kind for each in live if name in each.fault.services])
            except EnclaveError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _shape(self) -> None:
        wanted = self._state.connections()
        if wanted != self._state.site.shaped():
            self._state.site.shape(wanted, self._seed)

    def _bring(self, name: str, kinds: Sequence[Kind]) -> None:
        """Have a service as these faults want it, or running; one that is gone, or stopped by the plan, stays so."""
        site = self._state.site
        if self._is_stopped_by_plan(name):
            return
        down = next((kind for kind in kinds if kind in _DOWN), None)
        fact = site.observe().get(name)
        if fact is None:
            return
        if down is not None:
            if fact.status not in _AT_REST:
                site.act(name, _DOWN[down])
            return
        if fact.status in _AT_REST and (config := self._state.configs().get(name)) is not None:
            start_again(site, self._state.engine.clock, name, config)
        is_paused = fact.status is Status.PAUSED
        if "pause" in kinds and not is_paused:
            site.act(name, Action.PAUSE)
        elif "pause" not in kinds and is_paused:
            site.act(name, Action.RESUME)

    def _is_stopped_by_plan(self, name: str) -> bool:
        acted = [record.name for record in self._state.journal.snapshot() if name in record.footprint.makes]
        return acted[-1:] == ["stop_service"]

    def _check_known(self, fault: Fault) -> None:
        __tracebackhide__ = True
        known = self._state.services()
        for name in fault.services:
            if name not in known:
                raise UnknownService(name, known)

    def _check_running(self, fault: Fault) -> None:
        """Only what runs, or would without another fault, can be broken: it is to run again."""
        __tracebackhide__ = True
        if not fault.is_of_services:
            return
        facts, broken = self._state.site.observe(), self._broken(self._live)
        for name in fault.services:
            fact = facts.get(name)
            if name not in broken and (fact is None or fact.status is not Status.RUNNING):
                status = "gone" if fact is None else fact.status.value
                raise ServiceError(
                    f"service `{name}` does not run, it is {status}: `{fault}` needs it to", service=name
                )

    @staticmethod
    def _broken(live: Iterable[LiveFault]) -> list[str]:
        return sorted({name for each in live if each.fault.is_of_services for name in each.fault.services})

    # what is known to other processes

    @property
    def _path(self) -> Path | None:
        home = self._state.id.home
        return Path(home, MARK) if home else None

    def _mark(self, live: Sequence[LiveFault]) -> None:
        path = self._path
        if path is None:
            return
        if live:
            # Whole at any moment: a process may be killed while it adds a fault to others.
            scratch = path.with_name(f"{MARK}.new")
            scratch.write_text(json.dumps(self._broken(live)), "utf-8")
            scratch.replace(path)
        else:
            path.unlink(missing_ok=True)
