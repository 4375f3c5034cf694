"""Which enclave a test gets: shared by whoever asks for the same, its own, or its own copy of a shared one.

Keys: `share = NAME` → the enclave of that name; else one for each package with the same arguments; those of a module or
class are its own. `isolate = True` → a fresh one. What is shared is shared by all processes of the session. A run that
failed is not tried again in this session: whoever needs it next gets the same error. Nor is an engine that did not
answer asked again.

`isolate = "fork"` → a copy of the shared enclave with the same key, as it was right after the demand's run, when no
test had been given it yet. Such a *base* is the shared enclave itself where that can still be had: it is frozen right
after that run, if then forks are expected or asked for. Where a test has it already, also one of another process or of
a former session, or it was frozen after another run, the base is made anew: an enclave that no test ever gets, in which
all that tests of this process had run in the shared one by asking for it, up to the demand's run, is run again in the
same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.enclave.demand import Demand
from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.enclave.tenure import Tenure
from pytest_enclave.enclave.upkeep import FAILED, GIVEN, About, Upkeep
from pytest_enclave.engine.protocol import EnclaveId, Engine, Leak, Site
from pytest_enclave.errors import EnclaveError, EngineUnavailable, HalfStarted
from pytest_enclave.plan.events import Forked, PhaseStarted
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import Options, Tools

if TYPE_CHECKING:
    from pytest_enclave.run.forking import ForkPoint

Slot = tuple[str, str]
"""An enclave's key, and that of a request that is run in it."""

ATTEMPTS = 3
"""How often an enclave is made for a demand when processes are killed in the middle of doing so."""


class Failure(msgspec.Struct, frozen=True):
    """A run that failed: the error, and who met it first."""

    error: EnclaveError
    by: str


class Base(msgspec.Struct, frozen=True):
    """What forks are made from: an enclave, and what it was when it was frozen."""

    enclave: Enclave
    point: ForkPoint


class Enclaves:
    """All enclaves of one process of a session on one engine. Closing it removes, leaves or keeps every one of them.

    `expects_more` tells whether so many demands for fresh enclaves of the same package are still to come that it is
    worth while to have the engine get ready for them; `expects_fork`, whether there are demands for forks of the
    enclave that this demand gets, as it is then. Without a `tenure` they are a session of their own.
    """

    def __init__(
        self,
        engine: Engine,
        tools: Tools,
        options: Options,
        observers: Observers,
        tenure: Tenure | None = None,
        *,
        reuse: bool = True,
        expects_more: Callable[[Demand], bool] = lambda _: False,
        expects_fork: Callable[[Demand], bool] = lambda _: False,
    ) -> None:
        self.engine = engine
        self.observers = observers
        self.reuse = reuse
        self.expects_more = expects_more
        self.expects_fork = expects_fork
        self._owns_session = tenure is None
        self.upkeep = Upkeep(engine, tools, options, observers, tenure or Tenure.begin())
        self._services: dict[str, Sequence[str]] = {}
        self._shared: dict[str, Enclave] = {}
        self._asked: dict[str, list[Request]] = {}
        self._bases: dict[Slot, Base] = {}
        self._remade: dict[Slot, Enclave] = {}
        self._failures: dict[Slot, Failure] = {}
        self._unavailable: EngineUnavailable | None = None
        self._lock = threading.RLock()
        self._turns: dict[str, threading.RLock] = {}

    def alone(self, enclave: Enclave) -> bool:
        """Whether the enclave is that of one test, and nobody else gets it or a fork of it."""
        with self._lock:
            return enclave not in (*self._shared.values(), *self._remade.values())

    def obtain(self, demand: Demand, by: str, using: Callable[[Enclave], None]) -> Enclave:
        """The enclave for a demand, its package run. `by` names who asks: only who met a failure may run into it again.

        `using` is told of the enclave before anything runs in it; where a fork is asked for and the run for it fails,
        of the enclave that it failed in. Raises the error that ended the run, now or before.
        """
        __tracebackhide__ = True
        if demand.isolate is True or not self.reuse:
            return self._fresh(demand, using)
        if demand.isolate == "fork":
            return self._fork(self._base(demand, by, using), demand, using)
        with self._turn(demand):
            for _ in range(ATTEMPTS):
                enclave = self._shared_one(demand)
                using(enclave)
                try:
                    self._share(enclave, demand, by)
                except HalfStarted as error:
                    self._discard(enclave, error)
                    continue
                if self.expects_fork(demand) and _forks(demand) not in self._failures:
                    self._freeze_for_later(enclave, demand, by)
                self.upkeep.mark(enclave, GIVEN)
                return enclave
        raise HalfStarted("processes are killed again and again in the middle of making this enclave")

    def _turn(self, demand: Demand) -> threading.RLock:
        """Between the end of a run and a freeze no other thread shall be given the enclave."""
        with self._lock:
            return self._turns.setdefault(demand.key, threading.RLock())

    # an enclave for one test

    def _fresh(self, demand: Demand, using: Callable[[Enclave], None]) -> Enclave:
        __tracebackhide__ = True
        services = self._services.get(demand.request.key, ())
        enclave = self._create(demand, lambda identity: self._open_site(identity, services))
        using(enclave)
        try:
            enclave.execute(demand.request, demand.here)
        except EnclaveError as error:
            error.enclave = enclave.name
            raise
        if self.expects_more(demand):
            self._services[demand.request.key] = tuple(enclave.services)
            self.engine.prepare(self._services[demand.request.key])
        return enclave

    # an enclave that is shared

    def _shared_one(self, demand: Demand) -> Enclave:
        if demand.key not in self._shared:
            if demand.scope:
                enclave = self._create(demand, self._open_site)
            else:
                self._check_available()
                enclave = self.upkeep.shared(demand.key, demand.name, self._open_site, about=_about(demand))
            with self._lock:
                self._shared[demand.key] = enclave
        return self._shared[demand.key]

    def _discard(self, enclave: Enclave, error: EnclaveError) -> None:
        """Whoever asks for it next gets another one."""
        with self._lock:
            self._shared = {key: other for key, other in self._shared.items() if other is not enclave}
            self._remade = {slot: other for slot, other in self._remade.items() if other is not enclave}
        self.upkeep.discard(enclave, error)

    def _share(self, enclave: Enclave, demand: Demand, by: str) -> None:
        """Run the demand's package in the shared enclave."""
        __tracebackhide__ = True
        asked = self._asked.setdefault(demand.key, [])
        self._run(enclave, [demand.request], demand, demand.slot, by)
        if demand.request.key not in [request.key for request in asked]:
            asked.append(demand.request)

    def _freeze_for_later(self, enclave: Enclave, demand: Demand, by: str) -> None:
        """Freeze the shared enclave after its run, where it can be a base. That it cannot be is for forks to tell."""
        __tracebackhide__ = True
        if demand.slot in self._bases or self._has_been_frozen(enclave) or self.upkeep.is_marked(enclave, GIVEN):
            return
        try:
            self._freeze(enclave, demand, by)
        except EnclaveError:
            # What has not come up again is started by a further run.
            self._run(enclave, [demand.request], demand, demand.slot, by)

    def _has_been_frozen(self, enclave: Enclave) -> bool:
        return enclave in [base.enclave for base in self._bases.values()]

    def _run(self, enclave: Enclave, requests: Sequence[Request], demand: Demand, slot: Slot, by: str) -> None:
        """Run requests. What fails, or has failed, does so for this slot."""
        __tracebackhide__ = True
        # Who waits for another process to run the same has to know what has come of that.
        with enclave.turn():
            failed_before = self._raise_known_failure(enclave, slot, by)
            with self._remembered(enclave, slot, by):
                for request in requests:
                    enclave.execute(request, demand.here)
            if failed_before:
                self._failures.pop(slot, None)
                enclave.forget_failure(self.upkeep.tenure.session.id, "\n".join(slot))

    def _freeze(self, enclave: Enclave, demand: Demand, by: str) -> None:
        """Make the enclave, in which the demand's request was the last that ran, the base of forks.

        Not if a test of another process has been given it meanwhile.
        """
        __tracebackhide__ = True
        with self._remembered(enclave, _forks(demand), by):
            point = enclave.freeze(lambda: not self.upkeep.is_marked(enclave, GIVEN))
            if point is not None:
                self._bases[demand.slot] = Base(enclave, point)

    @contextmanager
    def _remembered(self, enclave: Enclave, slot: Slot, by: str) -> Iterator[None]:
        """Whatever fails has failed for all who ask for this slot."""
        __tracebackhide__ = True
        try:
            yield
        except HalfStarted:
            raise
        except EnclaveError as error:
            # Most runs succeed.
            import pickle

            error.enclave = enclave.name
            self._failures[slot] = Failure(error, by)
            self.upkeep.mark(enclave, FAILED)
            enclave.remember_failure(self.upkeep.tenure.session.id, "\n".join(slot), by, pickle.dumps(error))
            raise

    def _raise_known_failure(self, enclave: Enclave, slot: Slot, by: str) -> bool:
        """Raise what this run has come to before, in this process or in another one of the session.

        Whether it failed for who asks now, who may try again.
        """
        failure = self._failures.get(slot)
        if (
            failure is None
            and (known := enclave.known_failure(self.upkeep.tenure.session.id, "\n".join(slot))) is not None
        ):
            import pickle

            # Of this user's own processes, and of this session: nobody else writes there.
            failure = Failure(pickle.loads(known.body), known.by)
            failure.error.reported_by = known.by
        if failure is not None and failure.by != by:
            raise failure.error.with_traceback(None)
        return failure is not None

    # a copy of one that is shared

    def _base(self, demand: Demand, by: str, using: Callable[[Enclave], None]) -> Base:
        __tracebackhide__ = True
        with self._turn(demand):
            if demand.slot in self._bases:
                return self._bases[demand.slot]
            enclave = self._shared_one(demand)
            try:
                self._raise_known_failure(enclave, demand.slot, by)
                self._raise_known_failure(enclave, _forks(demand), by)
                if not self._has_been_frozen(enclave) and not self.upkeep.is_marked(enclave, GIVEN):
                    self._share(enclave, demand, by)
                    self._freeze(enclave, demand, by)
                if demand.slot not in self._bases:
                    enclave = self._remade_one(demand)
                    self._run(enclave, self._asked_until(demand), demand, _forks(demand), by)
                    self._freeze(enclave, demand, by)
            except EnclaveError as error:
                using(enclave)
                if isinstance(error, HalfStarted):
                    self._discard(enclave, error)
                raise
            return self._bases[demand.slot]

    def _remade_one(self, demand: Demand) -> Enclave:
        if demand.slot not in self._remade:
            enclave = self._create(demand, self._open_site, "-base")
            with self._lock:
                self._remade[demand.slot] = enclave
        return self._remade[demand.slot]

    def _asked_until(self, demand: Demand) -> list[Request]:
        """What was run in the shared enclave before the demand's request was for the first time, and that request."""
        asked = self._asked.get(demand.key, [])
        keys = [request.key for request in asked]
        before = asked[: keys.index(demand.request.key)] if demand.request.key in keys else asked
        return [*before, demand.request]

    def _fork(self, base: Base, demand: Demand, using: Callable[[Enclave], None]) -> Enclave:
        __tracebackhide__ = True
        started = self.engine.clock.now()
        self.observers.event(base.enclave, PhaseStarted("forking"))
        fork = self._create(demand, base.point.fork, "-fork")
        using(fork)
        try:
            fork.begin(base.point, demand.request, demand.here)
        except EnclaveError as error:
            error.enclave = fork.name
            raise
        self.observers.event(fork, Forked(fork.name, base.enclave.name, self.engine.clock.now() - started))
        return fork

    # how enclaves come and go

    def _create(self, demand: Demand, open_site: Callable[[EnclaveId], Site], kind: str = "") -> Enclave:
        self._check_available()
        return self.upkeep.make(demand.name + kind, open_site, about=_about(demand, kind))

    def _check_available(self) -> None:
        if self._unavailable is not None:
            raise self._unavailable.with_traceback(None)
        try:
            self.engine.probe()
        except EngineUnavailable as error:
            self._unavailable = error
            raise

    def _open_site(self, identity: EnclaveId, services: Sequence[str] = ()) -> Site:
        try:
            return self.engine.open(identity, services)
        except EngineUnavailable as error:
            self._unavailable = error
            raise

    def release(self, enclave: Enclave) -> None:
        """Give an enclave back that nobody else will use: it is removed in the background, or kept if it has failed."""
        with self._lock:
            self._shared = {key: other for key, other in self._shared.items() if other is not enclave}
        self.upkeep.release(enclave)

    def close(self) -> Sequence[Leak]:
        """Remove, leave or keep every enclave, side by side; returns what could not be removed."""
        with self._lock:
            self._shared.clear()
            self._remade.clear()
            self._bases.clear()
        leaks = self.upkeep.close()
        if self._owns_session:
            self.upkeep.tenure.session.end()
        return leaks


def _forks(demand: Demand) -> Slot:
    """The slot of what goes wrong with the base of forks only, which is nothing to those who share."""
    return f"forks of {demand.key}", demand.request.key


def _about(demand: Demand, kind: str = "") -> About:
    return About(demand.title, "base of forks" if kind == "-base" else demand.kind, demand.args)
