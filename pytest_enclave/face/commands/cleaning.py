"""`--enclave-clean`: removing enclaves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_enclave.engine.protocol import EnclaveId, Engine, Leak
from pytest_enclave.engine.select import place_of
from pytest_enclave.errors import EnclaveError, EngineError
from pytest_enclave.face.commands.engines import Engines
from pytest_enclave.face.commands.known import Known, Standing
from pytest_enclave.face.commands.listing import NONE
from pytest_enclave.face.commands.naming import no_enclave
from pytest_enclave.face.commands.streams import tell
from pytest_enclave.ledger.ledger import Home, Ledger
from pytest_enclave.ledger.locks import SharedLock
from pytest_enclave.report.summary import leak_lines, leak_title

ALL = "all"
AT_A_TIME = 8


def clean(ledger: Ledger, known: Sequence[Known], engines: Engines, asked: str) -> int:
    """Remove the enclaves that nobody uses, the one of that name, or all; 1 if anything of them is left.

    Raises pytest.UsageError where there is no such enclave.
    """
    # What was left in the middle of making or removing it.
    ledger.sweep(lambda _: False, lambda _: False)
    wanted = known
    if asked not in ("", ALL):
        wanted = [each for each in known if each.name == asked]
        if not wanted:
            raise pytest.UsageError(f"--enclave-clean={asked}: {no_enclave(asked, known)}")
    if not wanted:
        tell(NONE)
    cleaning = _Cleaning(ledger, engines, asked)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        jobs = [pool.submit(cleaning.remove, each, found) for each in wanted if (found := cleaning.engines_for(each))]
        for job in jobs:
            job.result()
    if cleaning.leaks:
        tell("\n".join([leak_title(cleaning.leaks), *leak_lines(cleaning.leaks)]))
    return int(cleaning.failed or bool(cleaning.leaks))


class _Cleaning:
    """One call of it: what is left so far."""

    def __init__(self, ledger: Ledger, engines: Engines, asked: str) -> None:
        self._ledger = ledger
        self._engines = engines
        self._asked = asked
        self.leaks: list[Leak] = []
        self.failed = False

    def engines_for(self, known: Known) -> Sequence[Engine]:
        """The engines to remove an enclave from; none if it stays, which has been told."""
        if known.standing is Standing.IN_USE and self._asked != ALL:
            self._tell_used(known)
            return []
        try:
            return [self._engines.of(known.entry)] if known.entry.engine else self._engines.here()
        except EnclaveError as error:
            self._tell_stays(known, str(error))
            return []

    def remove(self, known: Known, engines: Sequence[Engine]) -> None:
        """Remove an enclave, and tell of it."""
        home = self._condemned(known)
        if home is None:
            return
        try:
            leaks = [leak for each in engines for leak in each.remove(EnclaveId(known.name, str(home.path)))]
            if not leaks:
                self._ledger.forget(home)
        except EngineError as error:
            self._tell_stays(known, str(error))
            return
        finally:
            home.leave()
        self.leaks += leaks
        if not leaks:
            where = place_of(known.entry.engine, known.entry.endpoint)
            tell(f"removed {known.name} ({where}{', ' * bool(where)}{known.standing.value})")

    def _condemned(self, known: Known) -> Home | None:
        """The home of an enclave that may be removed; None if somebody uses it, or has just removed it."""
        home = self._ledger.condemn(known.entry, alive=True)
        if home is not None:
            return home
        path = self._ledger.path(known.name)
        if not path.exists():
            return None
        if self._asked == ALL:
            return Home(path, SharedLock(path / "lease"))
        self._tell_used(known)
        return None

    def _tell_used(self, known: Known) -> None:
        if self._asked:
            self.failed = True
            tell(f"{known.name} was not removed: a session uses it (--enclave-clean=all removes it all the same)")
        else:
            tell(f"{known.name} stays: a session uses it")

    def _tell_stays(self, known: Known, why: str) -> None:
        self.failed = True
        tell(f"{known.name} could not be removed: {why}")
