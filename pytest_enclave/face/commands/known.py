"""The enclaves that are there: what the ledger and their journals tell of them. Nothing of it is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.plan.values import Struct
from pytest_enclave.run.state import leave_behind
from pytest_enclave.store.journal import Journal, JournalUnusable


class Standing(Enum):
    """Whether anybody lives for an enclave. Of one whose entry is damaged, and that is not in use, nobody can tell."""

    IN_USE = "in use"
    KEPT = "kept"
    LEFT_BEHIND = "left behind"
    DAMAGED = "damaged"


class Known(msgspec.Struct, frozen=True):
    """An enclave. `services` has the config of each; where the journal cannot be read, `trouble` says why."""

    entry: Entry
    standing: Standing
    services: Mapping[str, Struct] = msgspec.field(default_factory=dict)
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
    if ledger.is_used(entry):
        return Standing.IN_USE
    if entry.damage:
        return Standing.DAMAGED
    return Standing.KEPT if entry.is_kept else Standing.LEFT_BEHIND


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
