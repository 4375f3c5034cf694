"""Which enclave a test gets: shared by whoever asks for the same, its own, or its own copy of a shared one.

Keys: `share = NAME` → the enclave of that name; else one for each package with the same arguments. `isolate = True` → a
fresh one. A run that failed is not tried again in this session: whoever needs it next gets the same error. Nor is an
engine that did not answer asked again.

`isolate = "fork"` → a copy of the shared enclave with the same key, as it was right after the demand's run, when no
test had been given it yet. Such a *base* is the shared enclave itself where that can still be had: it is frozen right
after that run, if then forks are expected or asked for. Where a test has it already, or it was frozen after another
run, the base is made anew: an enclave that no test ever gets, in which all that tests had run in the shared one by
asking for it, up to the demand's run, is run again in the same order.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from pytest_enclave.enclave.demand import Demand
from pytest_enclave.enclave.directories import EnclaveDirectory, sweep
from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.engine.protocol import EnclaveId, Engine, Leak, Site
from pytest_enclave.errors import EnclaveError, EngineUnavailable
from pytest_enclave.plan.events import Forked, PhaseStarted
from pytest_enclave.run.forking import ForkPoint
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal

Slot = tuple[str, str]
"""An enclave's key, and that of a request that is run in it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed: the error, and who met it first."""

    error: EnclaveError
    by: str


@dataclass(frozen=True, slots=True)
class Base:
    """What forks are made from: an enclave, and what it was when it was frozen."""

    enclave: Enclave
    point: ForkPoint


@dataclass(slots=True)
class Enclaves:
    """All enclaves of one session on one engine. Closing it removes every one of them.

    `expects_more` tells whether so many demands for fresh enclaves of the same package are still to come that it is
    worth while to have the engine get ready for them; `expects_fork`, whether there are demands for forks of the
    enclave that this demand gets, as it is then. `complaints` tells what went wrong when enclaves were closed.
    """

    engine: Engine
    tools: Tools
    options: Options
    observers: Observers
    reuse: bool = True
    expects_more: Callable[[Demand], bool] = lambda _: False
    expects_fork: Callable[[Demand], bool] = lambda _: False
    complaints: list[str] = field(default_factory=list)
    _services: dict[str, Sequence[str]] = field(default_factory=dict)
    _shared: dict[str, Enclave] = field(default_factory=dict)
    _given: set[Enclave] = field(default_factory=set)
    _asked: dict[str, list[Request]] = field(default_factory=dict)
    _bases: dict[Slot, Base] = field(default_factory=dict)
    _remade: dict[Slot, Enclave] = field(default_factory=dict)
    _failures: dict[Slot, Failure] = field(default_factory=dict)
    _unavailable: EngineUnavailable | None = None
    _open: list[Enclave] = field(default_factory=list)
    _directories: dict[str, EnclaveDirectory] = field(default_factory=dict)
    _closing: list[Future[Sequence[Leak]]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _turns: dict[str, threading.RLock] = field(default_factory=dict)
    _closer: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="enclave-close")
    )

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
            enclave = self._shared_one(demand)
            using(enclave)
            self._share(enclave, demand, by)
            if self.expects_fork(demand) and _forks(demand) not in self._failures:
                self._freeze_for_later(enclave, demand, by)
            self._given.add(enclave)
        return enclave

    def _turn(self, demand: Demand) -> threading.RLock:
        """Between the end of a run and a freeze no other thread shall be given the enclave."""
        with self._lock:
            return self._turns.setdefault(demand.key, threading.RLock())

    # an enclave for one test

    def _fresh(self, demand: Demand, using: Callable[[Enclave], None]) -> Enclave:
        __tracebackhide__ = True
        services = self._services.get(demand.request.key, ())
        enclave = self._create(demand.name, lambda identity: self._open_site(identity, services))
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
            enclave = self._create(demand.name, self._open_site)
            with self._lock:
                self._shared[demand.key] = enclave
        return self._shared[demand.key]

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
        if demand.slot in self._bases or not self._is_untouched(enclave):
            return
        try:
            self._freeze(enclave, demand, by)
        except EnclaveError:
            # What has not come up again is started by a further run.
            self._run(enclave, [demand.request], demand, demand.slot, by)

    def _is_untouched(self, enclave: Enclave) -> bool:
        return enclave not in self._given and enclave not in [base.enclave for base in self._bases.values()]

    def _run(self, enclave: Enclave, requests: Sequence[Request], demand: Demand, slot: Slot, by: str) -> None:
        """Run requests. What fails, or has failed, does so for this slot."""
        __tracebackhide__ = True
        self._raise_known_failure(slot, by)
        with self._remembered(enclave, slot, by):
            for request in requests:
                enclave.execute(request, demand.here)

    def _freeze(self, enclave: Enclave, demand: Demand, by: str) -> None:
        """Make the enclave, in which the demand's request was the last that ran, the base of forks."""
        __tracebackhide__ = True
        with self._remembered(enclave, _forks(demand), by):
            self._bases[demand.slot] = Base(enclave, enclave.freeze())

    @contextmanager
    def _remembered(self, enclave: Enclave, slot: Slot, by: str) -> Iterator[None]:
        """Whatever fails has failed for all who ask for this slot."""
        __tracebackhide__ = True
        try:
            yield
        except EnclaveError as error:
            error.enclave = enclave.name
            self._failures[slot] = Failure(error, by)
            raise

    def _raise_known_failure(self, slot: Slot, by: str) -> None:
        failure = self._failures.get(slot)
        if failure is not None and failure.by != by:
            raise failure.error.with_traceback(None)

    # a copy of one that is shared

    def _base(self, demand: Demand, by: str, using: Callable[[Enclave], None]) -> Base:
        __tracebackhide__ = True
        with self._turn(demand):
            if demand.slot in self._bases:
                return self._bases[demand.slot]
            enclave = self._shared_one(demand)
            try:
                self._raise_known_failure(demand.slot, by)
                self._raise_known_failure(_forks(demand), by)
                if self._is_untouched(enclave):
                    self._share(enclave, demand, by)
                else:
                    enclave = self._remade_one(demand)
                    self._run(enclave, self._asked_until(demand), demand, _forks(demand), by)
                self._freeze(enclave, demand, by)
            except EnclaveError:
                using(enclave)
                raise
            return self._bases[demand.slot]

    def _remade_one(self, demand: Demand) -> Enclave:
        if demand.slot not in self._remade:
            enclave = self._create(f"{demand.name}-base", self._open_site)
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
        fork = self._create(f"{demand.name}-fork", base.point.fork)
        using(fork)
        try:
            fork.begin(base.point, demand.request, demand.here)
        except EnclaveError as error:
            error.enclave = fork.name
            raise
        self.observers.event(fork, Forked(fork.name, base.enclave.name, self.engine.clock.now() - started))
        return fork

    # how enclaves come and go

    def _create(self, name: str, open_site: Callable[[EnclaveId], Site]) -> Enclave:
        identity = EnclaveId(f"{name}-{secrets.token_hex(3)}")
        # A Ctrl-C may come at any moment: what is there by then is undone, until the list of open enclaves has it.
        with ExitStack() as undo:
            directory = EnclaveDirectory.make(identity.name)
            undo.callback(directory.remove)
            site = open_site(identity)
            undo.callback(site.close)
            journal = Journal(directory.path / "journal.sqlite")
            undo.callback(journal.close)
            state = EnclaveState(identity, self.engine, site, journal, ArtifactStore(directory.path / "artifacts"))
            enclave = Enclave(state, self.tools, self.options, self.observers)
            with self._lock:
                self._directories[identity.name] = directory
                self._open.append(enclave)
            undo.pop_all()
        return enclave

    def _open_site(self, identity: EnclaveId, services: Sequence[str] = ()) -> Site:
        if self._unavailable is not None:
            raise self._unavailable.with_traceback(None)
        try:
            return self.engine.open(identity, services)
        except EngineUnavailable as error:
            self._unavailable = error
            raise

    def release(self, enclave: Enclave) -> None:
        """Give an enclave back that nobody else will use: it is removed in the background."""
        with self._lock:
            if enclave in self._open:
                self._open.remove(enclave)
                self._closing.append(self._closer.submit(self._close_one, enclave))

    def close(self) -> Sequence[Leak]:
        """Remove every enclave, side by side; returns what could not be removed, and adds to `complaints`."""
        with self._lock:
            for enclave in list(self._open):
                self.release(enclave)
            self._shared.clear()
            self._remade.clear()
            self._bases.clear()
            closing, self._closing = self._closing, []
        leaks = [leak for future in closing for leak in future.result()]
        self._closer.shutdown()
        sweep()
        return leaks

    def _close_one(self, enclave: Enclave) -> Sequence[Leak]:
        """Whatever goes wrong with one enclave, the others' leaks have to be told."""
        try:
            return enclave.close()
        except Exception as error:
            self.complaints.append(f"removing {enclave.name}: {type(error).__name__}: {error}")
            return []
        finally:
            self._directories[enclave.name].remove()


def _forks(demand: Demand) -> Slot:
    """The slot of what goes wrong with the base of forks only, which is nothing to those who share."""
    return f"forks of {demand.key}", demand.request.key
