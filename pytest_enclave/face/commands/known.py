"""The enclaves that are there: what the ledger and their journals tell of them. Nothing of it is changed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.ledger.locks import SharedLock, is_locked
from pytest_enclave.plan.values import Struct
from pytest_enclave.run.state import leave_behind
from pytest_enclave.store.journal import Journal, JournalUnusable


class Standing(Enum):
    """Whether anybody lives for an enclave."""

    IN_USE = "in use"
    KEPT = "kept"
    LEFT_BEHIND = "left behind"


@dataclass(frozen=True, slots=True)
class Known:
    """An enclave. `services` has the config of each; where the journal cannot be read, `trouble` says why."""

    entry: Entry
    standing: Standing
    services: Mapping[str, Struct] = field(default_factory=dict)
    trouble: str = ""

    @property
    def name(self) -> str:
        """The enclave's name."""
        return self.entry.name


def known_enclaves(ledger: Ledger) -> Sequence[Known]:
    """All enclaves of this user, the oldest first."""
    return [_known(ledger, entry) for entry in ledger.entries()]


def standing_of(ledger: Ledger, entry: Entry) -> Standing:
    """How it is with an enclave right now. One that somebody looks into is in use as well."""
    if _is_used(ledger, entry):
        return Standing.IN_USE
    return Standing.KEPT if is_kept(entry) else Standing.LEFT_BEHIND


def is_kept(entry: Entry) -> bool:
    """Whether it stays when its session ends."""
    return entry.kept_until is not None and time.time() < entry.kept_until


def _is_used(ledger: Ledger, entry: Entry) -> bool:
    if entry.key and not is_kept(entry) and ledger.lives(entry.session):
        return True
    # Trying the lease is to disturb nobody who wants to have it: that happens while the ledger is locked.
    lock = SharedLock(ledger.root / "lock")
    lock.take()
    try:
        return is_locked(ledger.path(entry.name) / "lease")
    finally:
        lock.release()


def _known(ledger: Ledger, entry: Entry) -> Known:
    standing = standing_of(ledger, entry)
    path = ledger.path(entry.name) / "journal.sqlite"
    if not path.exists():
        # It is just being made, or its maker was killed meanwhile.
        return Known(entry, standing)
    try:
        journal = Journal(path)
    except JournalUnusable as error:
        return Known(entry, standing, trouble=str(error).removeprefix(f"{path} "))
    services: dict[str, Struct] = {}
    try:
        for record in journal.snapshot():
            leave_behind(services, record, record.services)
    finally:
        journal.close()
    return Known(entry, standing, services)
