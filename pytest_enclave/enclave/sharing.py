"""Which enclave a test gets: shared by whoever asks for the same, or its own.

Keys: `share = NAME` → the enclave of that name; `isolate = True` → a fresh one; else one for each package with the same
arguments. A run that failed is not tried again in this session: whoever needs it next gets the same error. Nor is an
engine that did not answer asked again.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.engine.protocol import EnclaveId, Engine, Leak, Site
from pytest_enclave.errors import EnclaveError, EngineUnavailable
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Demand:
    """What a test asks for: a request, with whom it shares the enclave, and where the test's file is."""

    request: Request
    share: str | None = None
    isolate: bool = False
    here: Path | None = None

    @property
    def key(self) -> str:
        """Equal for demands that one enclave serves."""
        return f"share {self.share}" if self.share else f"package {self.request.key}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed: the error, and who met it first."""

    error: EnclaveError
    by: str


@dataclass(slots=True)
class Enclaves:
    """All enclaves of one session on one engine. Closing it removes every one of them.

    `expects_more` tells whether so many demands for fresh enclaves of the same package are still to come that it is
    worth while to have the engine get ready for them. `complaints` tells what went wrong when enclaves were closed.
    """

    engine: Engine
    tools: Tools
    options: Options
    observers: Observers
    reuse: bool = True
    expects_more: Callable[[Demand], bool] = lambda _: False
    complaints: list[str] = field(default_factory=list)
    _services: dict[str, Sequence[str]] = field(default_factory=dict)
    _shared: dict[str, Enclave] = field(default_factory=dict)
    _failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    _unavailable: EngineUnavailable | None = None
    _open: list[Enclave] = field(default_factory=list)
    _directories: dict[str, Path] = field(default_factory=dict)
    _closing: list[Future[Sequence[Leak]]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closer: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="enclave-close")
    )

    def alone(self, demand: Demand) -> bool:
        """Whether nobody else gets the enclave of this demand."""
        return demand.isolate or not self.reuse

    def obtain(self, demand: Demand, by: str, using: Callable[[Enclave], None]) -> Enclave:
        """The enclave for a demand, its package run. `by` names who asks: only who met a failure may run into it again.

        `using` is told of the enclave before anything runs in it. Raises the error that ended the run, now or before.
        """
        __tracebackhide__ = True
        alone = self.alone(demand)
        enclave = self._create(demand) if alone else self._share(demand)
        using(enclave)
        if not alone:
            self._raise_known_failure(demand, by)
        try:
            enclave.execute(demand.request, demand.here)
        except EnclaveError as error:
            error.enclave = enclave.name
            if not alone:
                self._failures[demand.key, demand.request.key] = Failure(error, by)
            raise
        if alone and self.expects_more(demand):
            self._services[demand.request.key] = tuple(enclave.services)
            self.engine.prepare(self._services[demand.request.key])
        return enclave

    def _share(self, demand: Demand) -> Enclave:
        with self._lock:
            if demand.key not in self._shared:
                self._shared[demand.key] = self._create(demand)
            return self._shared[demand.key]

    def _raise_known_failure(self, demand: Demand, by: str) -> None:
        failure = self._failures.get((demand.key, demand.request.key))
        if failure is not None and failure.by != by:
            raise failure.error.with_traceback(None)

    def _create(self, demand: Demand) -> Enclave:
        identity = EnclaveId(f"{_base_name(demand)}-{secrets.token_hex(3)}")
        directory = Path(tempfile.gettempdir(), f"pytest-enclave-{identity.name}-{secrets.token_hex(8)}")
        # A Ctrl-C may come at any moment: what is there by then is undone, until the list of open enclaves has it.
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            directory.mkdir()
            directory.chmod(0o755)
            site = self._open_site(identity, self._services.get(demand.request.key, ()) if self.alone(demand) else ())
            undo.callback(site.close)
            journal = Journal(directory / "journal.sqlite")
            undo.callback(journal.close)
            state = EnclaveState(identity, self.engine, site, journal, ArtifactStore(directory / "artifacts"))
            enclave = Enclave(state, self.tools, self.options, self.observers)
            with self._lock:
                self._directories[identity.name] = directory
                self._open.append(enclave)
            undo.pop_all()
        return enclave

    def _open_site(self, identity: EnclaveId, services: Sequence[str]) -> Site:
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
            closing, self._closing = self._closing, []
        leaks = [leak for future in closing for leak in future.result()]
        self._closer.shutdown()
        return leaks

    def _close_one(self, enclave: Enclave) -> Sequence[Leak]:
        """Whatever goes wrong with one enclave, the others' leaks have to be told."""
        try:
            return enclave.close()
        except Exception as error:
            self.complaints.append(f"removing {enclave.name}: {type(error).__name__}: {error}")
            return []
        finally:
            shutil.rmtree(self._directories[enclave.name], ignore_errors=True)


def _base_name(demand: Demand) -> str:
    """A readable beginning for an enclave's name, of letters that every engine takes."""
    if demand.share:
        base = demand.share
    elif (path := demand.request.path) is None:
        base = "source"
    else:
        base = (
            path.stem
            if path.suffix == ".star" and path.stem != "main"
            else (path if path.is_dir() else path.parent).name
        )
    return re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")[:30] or "enclave"
