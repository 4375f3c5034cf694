"""How enclaves come and go: made, or found where another process or session has made them; removed, left, or kept.

Whatever is made has its home in the ledger first. An enclave of one test is removed when that is over, one that is
shared when the session ends, by its main process: with pytest-xdist the controller, which waits for all workers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.enclave.tenure import Keep, Tenure
from pytest_enclave.enclave.turns import Turns, Uses
from pytest_enclave.engine.protocol import EnclaveId, Engine, Leak, Site
from pytest_enclave.errors import EnclaveError, EngineError
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Home
from pytest_enclave.ledger.locks import SharedLock
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal, JournalUnusable
from pytest_enclave.store.plans import KeptPlans

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

OpenSite = Callable[[EnclaveId], Site]

GIVEN = "given"
"""The file in the home of an enclave that a test has got."""

FAILED = "failed"
"""The file in the home of an enclave in which a test, or a run, has failed."""


class About(msgspec.Struct, frozen=True):
    """What users are told of an enclave: fields of its entry in the ledger."""

    package: str = ""
    kind: str = ""
    args: str = ""


NOTHING = About()


CLOSED_AT_A_TIME = 8
"""Enclaves that are removed at the same time."""


class _Holding(msgspec.Struct, frozen=True):
    """An enclave that is open in this process: its entry in the ledger and its home."""

    entry: Entry
    home: Home


class Upkeep:
    """The enclaves that this process has open on one engine.

    `complaints` tells what went wrong when they were closed, `notes` what else users should know; `taken_over` are the
    names of those that an earlier session had kept.
    """

    def __init__(self, engine: Engine, tools: Tools, options: Options, observers: Observers, tenure: Tenure) -> None:
        self.engine = engine
        self.tools = tools
        self.options = options
        self.observers = observers
        self.tenure = tenure
        self.complaints: list[str] = []
        self.notes: list[str] = []
        self.taken_over: list[str] = []
        self.uses = Uses()
        self._open: dict[Enclave, _Holding] = {}
        self._closing: list[Future[Sequence[Leak]]] = []
        self._lock = threading.RLock()
        self._closer: ThreadPoolExecutor | None = None

    # making and finding

    def make(self, name: str, open_site: OpenSite, *, about: About = NOTHING, key: str = "") -> Enclave:
        """A new enclave, of this process alone or, with a key, for all processes of the session."""
        tenure = self.tenure
        entry = Entry(
            f"{name}-{os.urandom(3).hex()}",
            self.engine.name,
            tenure.session.id,
            time.time(),
            endpoint=self.engine.probe().endpoint,
            key=key,
            package=about.package,
            kind=about.kind,
            args=about.args,
            holder=tenure.session.holder if key else os.getpid(),
        )
        # A Ctrl-C may come at any moment: what is there by then is undone, until the list of open enclaves has it.
        with ExitStack() as undo:
            home = tenure.ledger.enter(entry)
            undo.callback(tenure.ledger.forget, home)
            site = open_site(self._identity(entry, home))
            undo.callback(site.close)
            enclave = self._opened(entry, home, site, undo)
            tenure.ledger.change(entry.name, ready=True)
            undo.pop_all()
        return enclave

    def shared(self, key: str, name: str, open_site: OpenSite, *, about: About = NOTHING) -> Enclave:
        """The enclave for a key: that of this session, one that was kept by another, or a new one."""
        if not self.engine.is_shared:
            return self.make(name, open_site, about=about)
        key = self.tenure.key(self.engine.identity, key)
        found = self._found(key)
        if found is not None:
            return found
        with self.tenure.ledger.making(key):
            return self._found(key) or self.make(name, open_site, about=about, key=key)

    def _found(self, key: str) -> Enclave | None:
        ledger, tried = self.tenure.ledger, set[str]()
        while (claimed := ledger.claim(key, self.tenure.session, kept=self.tenure.warm)) is not None:
            if claimed.entry.name in tried:
                claimed.home.leave()
                break
            tried.add(claimed.entry.name)
            try:
                enclave = self._attached(claimed.entry, claimed.home)
            except (EngineError, JournalUnusable) as error:
                self._give_up(claimed.entry, claimed.home, error)
                continue
            if claimed.was_kept:
                enclave.forget_losses()
                (claimed.home.path / FAILED).unlink(missing_ok=True)
                self.taken_over.append(enclave.name)
            return enclave
        return None

    def _attached(self, entry: Entry, home: Home) -> Enclave:
        """An enclave that another process has made. Raises EngineError, JournalUnusable."""
        with ExitStack() as undo:
            journal = Journal(home.path / "journal.sqlite")
            undo.callback(journal.close)
            artifacts = ArtifactStore(home.path / "artifacts", journal)
            self._check_whole(home, journal)
            if missing := artifacts.missing():
                raise EngineError(f"the files of its artifact `{missing[0]}` are gone")
            site = self.engine.attach(self._identity(entry, home))
            undo.callback(site.leave)
            enclave = self._enter(entry, home, site, journal, artifacts)
            undo.pop_all()
        return enclave

    def _check_whole(self, home: Home, journal: Journal) -> None:
        """Raise EngineError where a run in it was killed; not where one is going on."""
        turn = SharedLock(home.path / "turn")
        if turn.take(wait=False):
            try:
                if journal.interrupted:
                    raise EngineError("a run in it was killed")
            finally:
                turn.release()

    def _opened(self, entry: Entry, home: Home, site: Site, undo: ExitStack) -> Enclave:
        journal = Journal(home.path / "journal.sqlite")
        undo.callback(journal.close)
        return self._enter(entry, home, site, journal, ArtifactStore(home.path / "artifacts", journal))

    def _enter(self, entry: Entry, home: Home, site: Site, journal: Journal, artifacts: ArtifactStore) -> Enclave:
        plans = KeptPlans(home.path / "plans") if entry.key else None
        state = EnclaveState(EnclaveId(entry.name, str(home.path)), self.engine, site, journal, artifacts, plans)
        turns = Turns(home.path, self.uses)
        enclave = Enclave(state, self.tools, self.options, self.observers, turns)
        with self._lock:
            self._open[enclave] = _Holding(entry, home)
        return enclave

    def _identity(self, entry: Entry, home: Home) -> EnclaveId:
        # What is shared lives for the session, and not for the process that happens to make it.
        holder = self.tenure.session.holder if entry.key else 0
        return EnclaveId(entry.name, str(home.path), holder)

    # what is known of them

    def mark(self, enclave: Enclave, mark: str) -> None:
        """Say for all processes and sessions that the enclave was GIVEN to a test, or that one FAILED in it."""
        with self._lock:
            holding = self._open.get(enclave)
        if holding is not None:
            (holding.home.path / mark).touch()

    def is_marked(self, enclave: Enclave, mark: str) -> bool:
        """Whether any process has said so."""
        with self._lock:
            holding = self._open.get(enclave)
        return holding is not None and (holding.home.path / mark).exists()

    # faults of tests

    @property
    def is_broken(self) -> bool:
        """Whether the running test has begun faults."""
        with self._lock:
            return any(enclave.is_broken for enclave in self._open)

    def heal(self) -> None:
        """The test is over: end its faults. What cannot be healed is a complaint, and tried again by the next test."""
        with self._lock:
            broken = [enclave for enclave in self._open if enclave.is_broken]
        for enclave in broken:
            try:
                enclave.heal()
            except EnclaveError as error:
                self.complaints.append(f"healing the faults of a test in {enclave.name}: {error.message}")

    # giving up and removing

    def discard(self, enclave: Enclave, error: Exception) -> None:
        """Nobody shall get the enclave any more: it cannot be relied on. Who uses it may go on."""
        with self._lock:
            holding = self._open.pop(enclave)
        enclave.leave()
        self._give_up(holding.entry, holding.home, error)

    def _give_up(self, entry: Entry, home: Home, error: Exception) -> None:
        ledger = self.tenure.ledger
        ledger.change(entry.name, key="", kept_until=None)
        note = f"enclave {entry.name} was not used again: {error}"
        if isinstance(error, JournalUnusable):
            from pytest_enclave.store.aside import set_aside

            note += f"; its journal was set aside: {set_aside(error.path, ledger.root / 'set-aside')}"
        self.notes.append(note)
        home.leave()
        if (condemned := ledger.condemn(replace(entry, key="", kept_until=None))) is not None:
            self._remove(entry, condemned)

    def release(self, enclave: Enclave) -> None:
        """Give an enclave back that nobody else will use: it is removed in the background, or kept if it has failed."""
        with self._lock:
            holding = self._open.pop(enclave, None)
            if holding is not None:
                if self._closer is None:
                    self._closer = _pool()
                self._closing.append(self._closer.submit(self._end, enclave, holding))

    def close(self) -> Sequence[Leak]:
        """Let go of every enclave, side by side; returns what could not be removed, and adds to `complaints`."""
        with self._lock:
            mine = {holding.entry.name for holding in self._open.values()}
            opened = list(self._open)
            for enclave in opened[1:]:
                self.release(enclave)
            first = [(enclave, self._open.pop(enclave)) for enclave in opened[:1]]
            closing, self._closing = self._closing, []
        self.uses.end()
        # Most sessions have one, which takes no threads.
        leaks = [leak for enclave, holding in first for leak in self._end(enclave, holding)]
        leaks += [leak for future in closing for leak in future.result()]
        if self._closer is not None:
            self._closer.shutdown()
        if self.tenure.session.is_main and (left := [each for each in self._of_session() if each.name not in mine]):
            with _pool() as closer:
                leaks += [leak for found in closer.map(self._end_other, left) for leak in found]
        # A worker may be the last to go, if its main process was killed.
        is_main = self.tenure.session.is_main
        self.tenure.ledger.sweep(self._is_another_sessions if is_main else self._is_ours, self._was_removed)
        return leaks

    def _of_session(self) -> list[Entry]:
        """What there still is of this session, after the workers have left it to the main process."""
        entries = self.tenure.ledger.of_session(self.tenure.session.id)
        return [each for each in entries if each.kept_until is None and self._is_ours(each)]

    def _end_other(self, entry: Entry) -> Sequence[Leak]:
        """The main process decides, also where a worker has not let go of it."""
        ledger = self.tenure.ledger
        home = ledger.condemn(entry, alive=True) or ledger.visit(entry.name)
        if home is None:
            return []
        try:
            enclave = self._attached(entry, home)
        except (EngineError, JournalUnusable):
            return self._remove(entry, home)
        with self._lock:
            holding = self._open.pop(enclave)
        return self._end(enclave, holding)

    def _end(self, enclave: Enclave, holding: _Holding) -> Sequence[Leak]:
        """Whatever goes wrong with one enclave, the others' leaks have to be told."""
        entry, home = holding.entry, holding.home
        try:
            if entry.key and not self.tenure.session.is_main:
                enclave.leave()
                return []
            if self._stays(entry, home) and not enclave.is_empty and self._keep(enclave, entry):
                return []
            leaks = enclave.close()
            if not leaks:
                self.tenure.ledger.forget(home)
            return leaks
        except Exception as error:
            self.complaints.append(f"removing {entry.name}: {type(error).__name__}: {error}")
            return []
        finally:
            home.leave()

    def _stays(self, entry: Entry, home: Home) -> bool:
        failed = (home.path / FAILED).exists()
        if not self.engine.is_shared:
            return False
        return self.tenure.keeps(failed=failed) if entry.key else failed and self.tenure.keep is not Keep.NEVER

    def _keep(self, enclave: Enclave, entry: Entry) -> bool:
        """Of each key only the latest is kept; of those that are one test's own, the last of a package that failed."""
        ledger, until = self.tenure.ledger, self.tenure.until()
        with self._lock:
            ledger.change(entry.name, kept_until=until)
            try:
                enclave.keep(until)
            except EngineError as error:
                ledger.change(entry.name, kept_until=None)
                self.notes.append(f"enclave {entry.name} could not be kept: {error.message}")
                return False
            enclave.leave()
            kept = [each for each in ledger.entries() if each.kept_until is not None and each.name != entry.name]
            for other in kept:
                alike = other.key == entry.key and (entry.key or other.package == entry.package)
                if alike and self._is_ours(other) and (home := ledger.condemn(other, alive=True)):
                    self._remove(other, home)
            return True

    def _remove(self, entry: Entry, condemned: Home) -> Sequence[Leak]:
        """Remove what nobody has open."""
        try:
            leaks = self.engine.remove(EnclaveId(entry.name, str(condemned.path)))
            if not leaks:
                self.tenure.ledger.forget(condemned)
            return leaks
        except Exception as error:
            self.complaints.append(f"removing {entry.name}: {type(error).__name__}: {error}")
            return []
        finally:
            condemned.leave()

    def _was_removed(self, entry: Entry) -> bool:
        try:
            return not self.engine.remove(EnclaveId(entry.name, str(self.tenure.ledger.path(entry.name))))
        except Exception as error:
            # That of another session is no failure of this one; the next one tries again.
            self.notes.append(f"enclave {entry.name}, which is left behind, could not be removed: {error}")
            return False

    def _is_another_sessions(self, entry: Entry) -> bool:
        return entry.session != self.tenure.session.id and self._is_ours(entry)

    def _is_ours(self, entry: Entry) -> bool:
        return entry.engine == self.engine.name and entry.endpoint == self.engine.probe().endpoint


def _pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(CLOSED_AT_A_TIME, thread_name_prefix="enclave-close")
