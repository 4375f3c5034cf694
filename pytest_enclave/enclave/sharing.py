"""Which enclave a test gets: shared by whoever asks for the same, or its own.

Keys: `share = NAME` → the enclave of that name; `isolate = True` → a fresh one; else one for each package with the same
arguments. A run that failed is not tried again in this session: whoever needs it next gets the same error, marked with
the test that met it first, so that it is told in full only once.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.engine.protocol import EnclaveId, Engine, Leak
from pytest_enclave.errors import EnclaveError
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Demand:
    """What a test asks for: a request, and with whom it shares the enclave."""

    request: Request
    share: str | None = None
    isolate: bool = False

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
    """All enclaves of one session on one engine. Closing it removes every one of them."""

    engine: Engine
    tools: Tools
    options: Options
    observers: Observers
    reuse: bool = True
    _shared: dict[str, Enclave] = field(default_factory=dict)
    _failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    _open: list[Enclave] = field(default_factory=list)
    _directories: dict[str, Path] = field(default_factory=dict)
    _closing: list[Future[Sequence[Leak]]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closer: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="enclave-close")
    )

    def obtain(self, demand: Demand, by: str, using: Callable[[Enclave], None]) -> Enclave:
        """The enclave for a demand, its package run. `by` names who asks, in messages.

        `using` is told of the enclave before anything runs in it. Raises the error that ended the run, now or, with `reported_by` set, when somebody else met it.
        """
        alone = demand.isolate or not self.reuse
        if alone:
            enclave = self._create(demand)
        else:
            with self._lock:
                enclave = self._shared.get(demand.key) or self._create(demand)
                self._shared[demand.key] = enclave
        using(enclave)
        if not alone:
            self._raise_known_failure(demand, by)
        try:
            enclave.execute(demand.request)
        except EnclaveError as error:
            error.enclave = enclave.name
            if not alone:
                self._failures[demand.key, demand.request.key] = Failure(error, by)
            raise
        return enclave

    def _raise_known_failure(self, demand: Demand, by: str) -> None:
        failure = self._failures.get((demand.key, demand.request.key))
        if failure is not None and failure.by != by:
            failure.error.reported_by = failure.by
            raise failure.error.with_traceback(None)

    def _create(self, demand: Demand) -> Enclave:
        name = f"{_base_name(demand)}-{secrets.token_hex(3)}"
        directory = Path(tempfile.mkdtemp(prefix=f"pytest-enclave-{name}-"))
        directory.chmod(0o755)
        identity = EnclaveId(name)
        try:
            state = EnclaveState(
                identity,
                self.engine,
                self.engine.open(identity),
                Journal(directory / "journal.sqlite"),
                ArtifactStore(directory / "artifacts"),
            )
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        enclave = Enclave(state, self.tools, self.options, self.observers)
        with self._lock:
            self._open.append(enclave)
            self._directories[name] = directory
        return enclave

    def release(self, enclave: Enclave) -> None:
        """Give an enclave back that nobody else will use: it is removed in the background."""
        with self._lock:
            if enclave in self._open:
                self._open.remove(enclave)
                self._closing.append(self._closer.submit(self._close_one, enclave))

    def close(self) -> Sequence[Leak]:
        """Remove every enclave, side by side; returns what could not be removed."""
        with self._lock:
            for enclave in list(self._open):
                self.release(enclave)
            self._shared.clear()
            closing, self._closing = self._closing, []
        leaks = [leak for future in closing for leak in future.result()]
        self._closer.shutdown()
        return leaks

    def _close_one(self, enclave: Enclave) -> Sequence[Leak]:
        try:
            return enclave.close()
        finally:
            shutil.rmtree(self._directories[enclave.name], ignore_errors=True)


def _base_name(demand: Demand) -> str:
    """A readable beginning for an enclave's name, of letters that every engine takes."""
    if demand.share:
        base = demand.share
    elif isinstance(demand.request.package, Source):
        base = "source"
    else:
        path = Path(demand.request.package).resolve()
        base = (
            path.stem
            if path.suffix == ".star" and path.stem != "main"
            else (path if path.is_dir() else path.parent).name
        )
    return re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")[:30] or "enclave"
