"""Looking into an enclave without changing what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_enclave.engine.protocol import EnclaveId, Engine, Site
from pytest_enclave.errors import EngineError
from pytest_enclave.face.commands.known import Standing, standing_of
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger


@contextmanager
def looking_into(ledger: Ledger, entry: Entry, engine: Engine) -> Iterator[Site]:
    """Have the enclave open. Nobody removes it meanwhile but its own session. Raises EngineError if it is gone.

    What is kept stays kept, and what lives for a session goes with it. If that should have removed it and could not,
    because we were looking, we do.
    """
    standing = standing_of(ledger, entry)
    home = ledger.visit(entry.name)
    if home is None:
        raise EngineError(f"enclave {entry.name} is not there any more: it has just been removed")
    try:
        site = _attached(ledger, entry, engine, standing)
        try:
            yield site
        finally:
            _keep_kept(ledger, entry, site)
            site.leave()
    finally:
        home.leave()
    if standing in (Standing.IN_USE, Standing.KEPT) and (home := ledger.condemn(_now(ledger, entry))) is not None:
        try:
            if not engine.remove(EnclaveId(entry.name, str(home.path))):
                ledger.forget(home)
        finally:
            home.leave()


def _attached(ledger: Ledger, entry: Entry, engine: Engine, standing: Standing) -> Site:
    entry = _now(ledger, entry)
    # It is to live for whom it lives for, or, where that is nobody, for us.
    holder = entry.holder if standing is Standing.IN_USE and not entry.is_kept else 0
    site = engine.attach(EnclaveId(entry.name, str(ledger.path(entry.name)), holder))
    try:
        _keep_kept(ledger, entry, site)
    except BaseException:
        site.leave()
        raise
    return site


def _keep_kept(ledger: Ledger, entry: Entry, site: Site) -> None:
    """Attaching to it has ended that it is kept; and its session may have kept it meanwhile."""
    now = _now(ledger, entry)
    if now.is_kept and now.kept_until is not None:
        site.keep(now.kept_until)


def _now(ledger: Ledger, entry: Entry) -> Entry:
    """What the ledger says of the enclave by now. What it said, where it is gone."""
    return ledger.entry(entry.name) or entry
