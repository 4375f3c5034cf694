"""An enclave, as a test sees it: services, files, and what the package returned."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_enclave.enclave.paths import anchored, located
from pytest_enclave.enclave.service import Service
from pytest_enclave.enclave.turns import Turns, Undisputed
from pytest_enclave.engine.protocol import Leak, LogLine, Site
from pytest_enclave.errors import EnclaveError, EngineError
from pytest_enclave.plan.events import Event
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.values import Value
from pytest_enclave.run.interpretation import PackageLike, Request
from pytest_enclave.run.outcome import Run
from pytest_enclave.run.pipeline import Options, Tools, run
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.journal import Failure, JournalUnusable

if TYPE_CHECKING:
    from pytest_enclave.enclave.fault import Fault
    from pytest_enclave.enclave.faults import Faults, LiveFault
    from pytest_enclave.enclave.network import Network
    from pytest_enclave.run.forking import ForkPoint


class Observers(msgspec.Struct, frozen=True):
    """Who is told what: every event of a run, a plan before it executes, a run after it ended, an enclave's end."""

    event: Callable[[Enclave, Event], None]
    before_execution: Callable[[Enclave, Plan], None]
    after_run: Callable[[Enclave, Run], None]
    before_close: Callable[[Enclave], None]


UNDISPUTED = Undisputed()


class _Services(dict[str, Service]):
    """Services by name, with an error that tells which there are."""

    def __missing__(self, name: str) -> Service:
        from pytest_enclave.errors import UnknownService

        raise UnknownService(name, self)


class Enclave:
    """One isolated environment of real services. Its methods may be called from several threads."""

    def __init__(
        self,
        state: EnclaveState,
        tools: Tools,
        options: Options,
        observers: Observers,
        turns: Turns | Undisputed = UNDISPUTED,
    ) -> None:
        self._state = state
        self._turns = turns
        self._tools = tools
        self._options = options
        self._observers = observers
        self._lock = threading.RLock()
        self._request: Request | None = None
        self._here: Path | None = None
        self._last_run: Run | None = None
        self._faults: Faults | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Enclave {self.name!r}: {', '.join(self.services) or 'no services'}>"

    @property
    def name(self) -> str:
        """The enclave's name; every resource on the engine carries it."""
        return self._state.id.name

    @property
    def services(self) -> Mapping[str, Service]:
        """The services that have been added and not removed, by name. Raises UnknownService for any other name."""
        state = self._state
        return MappingProxyType(
            _Services(
                (name, Service(name, config, self._open_site, state.engine.clock, self._open_faults))
                for name, config in state.configs().items()
            )
        )

    @property
    def network(self) -> Network:
        """What is between the services, to be broken: `with enclave.network.partition({"db"}, {"api", "worker"}):`."""
        from pytest_enclave.enclave.network import Network

        return Network(self._open_faults)

    @property
    def files(self) -> Mapping[str, Path]:
        """The files artifacts: name → a directory that can be read."""
        __tracebackhide__ = True
        self._check_open()
        return MappingProxyType(dict(self._state.artifacts.directories()))

    @property
    def output(self) -> Value:
        """What the main function of the last run returned, as plain Python with all values known."""
        return None if self._last_run is None else self._last_run.output

    @property
    def last_run(self) -> Run | None:
        """The latest run in this enclave, failed ones included."""
        return self._last_run

    def run(
        self,
        package: PackageLike | None = None,
        args: Mapping[str, Value] | str | None = None,
        main: str | None = None,
    ) -> Run:
        """Run a package in this enclave: what is already there is reused, the rest is executed.

        Without a package the enclave's own is run, with its own arguments unless others are given; `main` is `run`
        unless the enclave's own request names another. Paths are relative to the file of the test that last asked for
        the enclave. Raises the EnclaveError that ended the run.
        """
        __tracebackhide__ = True
        return self.execute(self._request_of(package, args, main))

    def _request_of(
        self, package: PackageLike | None, args: Mapping[str, Value] | str | None, main: str | None
    ) -> Request:
        __tracebackhide__ = True
        here = self._here or Path()
        args = anchored(args, here)
        if package is not None:
            return Request.of(located(package, here), args, main or "run")
        if self._request is None:
            raise EnclaveError('this enclave has no package of its own: name one, as in `enclave.run("path")`')
        request = self._request
        if args is not None:
            request = replace(request, arguments=Request.of(request.package, args).arguments)
        return request if main is None else replace(request, main=main)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else runs anything in it meanwhile, in whichever process."""
        __tracebackhide__ = True
        with self._lock, self._turns.taken():
            yield

    def execute(self, request: Request, here: Path | None = None) -> Run:
        """Run a complete request. The first one becomes the enclave's own. Raises what ended the run.

        `here` is what paths in later calls of `run` are relative to; at first that is the working directory.
        """
        __tracebackhide__ = True
        self._check_open()
        with self._lock, self._turns.taken() as be_alone:
            self._state.refresh()
            self._recover(be_alone)
            self._request = self._request or request
            self._here = here or self._here
            finished = run(
                request,
                self._state,
                self._tools,
                self._options,
                self._emit,
                lambda plan: self._observers.before_execution(self, plan),
                be_alone,
                self._last_run,
            )
            self._last_run = finished
            if self._faults is not None:
                self._faults.go_on()
        self._observers.after_run(self, finished)
        if finished.error is not None:
            raise finished.error
        return finished

    def freeze(self, untouched: Callable[[], bool] = lambda: True) -> ForkPoint | None:
        """Make what it is now, after its last run, the point that forks begin from. Raises EngineError.

        If that is not `untouched`, asked for when nobody uses it, nothing is frozen.
        """
        # Most enclaves are not forked.
        from pytest_enclave.run.forking import freeze

        with self._lock, self._turns.taken() as be_alone:
            if self._last_run is None:
                raise EnclaveError("nothing has run in this enclave: there is nothing that forks could begin with")
            be_alone()
            if not untouched():
                return None
            return freeze(self._state, self._last_run, self._tools, self._options, self._emit)

    def begin(self, point: ForkPoint, request: Request, here: Path | None = None) -> None:
        """Begin as another enclave was when it was frozen, of which the services are a fork. Raises EngineError.

        The request becomes the enclave's own, and the other's last run its last run; nothing is executed.
        """
        from pytest_enclave.run.forking import begin

        with self._lock:
            self._request, self._here = request, here
            self._last_run = begin(point, self._state, self._tools, self._options, self._emit)

    def _emit(self, event: Event) -> None:
        __tracebackhide__ = True
        self._observers.event(self, event)

    def logs_since(self, wall: float) -> Mapping[str, Sequence[LogLine]]:
        """What each service has written since then (seconds since the epoch); silent ones are left out."""
        lines: dict[str, Sequence[LogLine]] = {}
        for name in self._state.configs():
            try:
                written = self._state.site.logs(name, wall)
            except EnclaveError:
                continue
            if written:
                lines[name] = written
        return lines

    def use(self) -> None:
        """The running test uses it: nobody changes it meanwhile, unless that test does.

        Faults that a test has left which was killed are healed, as far as the engine can.
        """
        self._turns.use()
        if self._is_left_broken():
            with suppress(EnclaveError), self._lock, self._turns.taken() as be_alone:
                self._recover(be_alone)

    def _check_open(self) -> None:
        """Raises EngineError where this process does not have the enclave any more."""
        __tracebackhide__ = True
        if self._is_closed:
            raise EngineError(
                f"enclave {self.name} is closed: the tests that it was for are over",
                remedy="ask for an enclave in the test that uses it: its services and network are there as long",
            )

    def _open_site(self) -> Site:
        __tracebackhide__ = True
        self._check_open()
        return self._state.site

    def _open_faults(self) -> Faults:
        __tracebackhide__ = True
        self._check_open()
        return self._all_faults()

    def _all_faults(self) -> Faults:
        """The running test's faults. Most tests have none."""
        from pytest_enclave.enclave.faults import Faults

        with self._lock:
            if self._faults is None:
                self._faults = Faults(self._state, self._turns, self._lock, self._options.seed or 0)
            return self._faults

    def _is_left_broken(self) -> bool:
        """Whether a process has had faults in it, and no end of them; asked for by who uses it, so none has any now."""
        home = self._state.id.home
        return bool(home) and not self._faults and os.path.exists(os.path.join(home, "faults"))

    def _recover(self, be_alone: Callable[[], None]) -> None:
        if self._is_left_broken():
            be_alone()
            self._all_faults().recover()

    def broken(self, fault: Fault) -> LiveFault:
        """Begin a fault. Raises UnknownService, ServiceError and EngineError."""
        __tracebackhide__ = True
        return self._all_faults().begin(fault)

    @property
    def faults(self) -> Sequence[LiveFault]:
        """Those that the running test has begun, oldest first; also those that have ended."""
        return () if self._faults is None else tuple(self._faults.told)

    @property
    def is_broken(self) -> bool:
        """Whether the running test has begun faults, or tried to."""
        return bool(self._faults) or bool(self.faults)

    @property
    def has_connections(self) -> bool:
        """Whether its package has set what is between services."""
        return bool(self._state.topology().matrix())

    def forget_losses(self) -> None:
        """It was kept by another session: which packets its connections lose follows from this one's seed from now on.

        Raises EngineError.
        """
        if self.has_connections:
            self._state.site.observe()
            # The next run says what is between services.
            self._state.site.shape({}, 0)

    def heal(self) -> None:
        """End all faults that there are: the test is over. Raises what keeps them from ending."""
        if self._faults is not None:
            self._faults.end_all()

    def remember_failure(self, session: str, slot: str, by: str, body: bytes) -> None:
        """Tell other processes of the session of a run that failed (`Journal.remember_failure`)."""
        with suppress(JournalUnusable):
            self._state.journal.remember_failure(session, slot, by, body)

    def forget_failure(self, session: str, slot: str) -> None:
        """That run has been tried again, with success."""
        with suppress(JournalUnusable):
            self._state.journal.forget_failure(session, slot)

    def known_failure(self, session: str, slot: str) -> Failure | None:
        """What a process of the session has told of that run; None if nothing."""
        with suppress(JournalUnusable):
            return self._state.journal.failure(session, slot)
        return None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been executed in it with success."""
        return not self._state.journal.snapshot()

    def keep(self, until: float) -> None:
        """Let it stay when its session ends, until then (seconds since the epoch). Raises EngineError."""
        self.heal()
        self._state.site.keep(until)

    def leave(self) -> None:
        """Let go of it, and leave it to others."""
        try:
            self.heal()
            self._state.site.leave()
        finally:
            self._is_closed = True
            self._state.journal.close()

    def close(self) -> Sequence[Leak]:
        """Remove everything; returns what could not be removed. May be called again."""
        self._observers.before_close(self)
        self._is_closed = True
        try:
            return self._state.site.close()
        finally:
            self._state.journal.close()
