"""The journal: the enclave plan on disk, written instruction by instruction.

SQLite in WAL mode: a commit costs hundredths of a millisecond, and a process that dies at any moment leaves a readable
file (dependencies measured this, `docs/architecture.md`). What is read is a copy in memory that every write updates.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pytest_enclave.plan.record import Record
from pytest_enclave.store.codec import decode, encode

SCHEMA_VERSION = 1


class Journal:
    """The records of one enclave, by position. Positions only grow."""

    def __init__(self, path: Path) -> None:
        """Open the journal at the path, or begin one there.

        Raises ValueError where the file is not a journal that this version reads.
        """
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            self._connection.close()
            raise ValueError(f"{path} is a journal of version {version}; this version reads {SCHEMA_VERSION}")
        with self._connection:
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS records (position INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL)"
            )
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        rows = self._connection.execute("SELECT position, body FROM records ORDER BY position")
        self._records = {position: decode(body) for position, body in rows}

    @property
    def records(self) -> Mapping[int, Record]:
        """All records by position, in order; a view that changes with the journal, for the thread that writes it."""
        return MappingProxyType(self._records)

    def snapshot(self) -> Sequence[Record]:
        """All records as they are now, for any thread."""
        with self._lock:
            return tuple(self._records.values())

    def append(self, record: Record) -> None:
        """Add a record after all others."""
        with self._lock:
            cursor = self._connection.execute("INSERT INTO records (body) VALUES (?)", (encode(record),))
            position = cursor.lastrowid
            assert position is not None
            self._records[position] = record

    def put(self, records: Mapping[int, Record]) -> None:
        """Replace records at positions that exist, all of them or none."""
        with self._lock:
            self._connection.execute("BEGIN")
            for position, record in records.items():
                self._connection.execute("UPDATE records SET body = ? WHERE position = ?", (encode(record), position))
            self._connection.execute("COMMIT")
            self._records |= records

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
