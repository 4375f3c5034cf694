"""The journal: what an enclave's processes share about it, in one file.

The enclave plan, written instruction by instruction; the index of the files artifacts; whether a run is going on; and
the errors of runs that need not be tried again. SQLite in WAL mode: a commit costs hundredths of a millisecond, and a
process that dies at any moment leaves a readable file (dependencies measured this, `docs/architecture.md`).

What is read is a copy in memory that every write updates, and `refresh` after other processes have written. They write
one at a time: a lock above journals sees to it, and whoever gets it refreshes first.

Every row carries a checksum, and one row counts the others. Beside the file is a *seal*, the number of the latest
write: SQLite takes a broken end of its write-ahead log for one that never was, and so would lose writes without a word.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from zlib import crc32

import msgspec
from msgspec.structs import astuple, replace

from pytest_enclave.plan.record import Record
from pytest_enclave.store.codec import decode, encode
from pytest_enclave.store.seal import Seal

SCHEMA_VERSION = 2

PATIENCE = 30.0
"""Seconds to wait while another process writes; a write takes a fraction of a millisecond."""

TABLES: Mapping[str, str] = MappingProxyType(
    {
        "records": "CREATE TABLE records (position INTEGER PRIMARY KEY, body TEXT NOT NULL, checksum INTEGER NOT NULL)",
        "artifacts": "CREATE TABLE artifacts"
        " (name TEXT PRIMARY KEY, digest TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
        "failures": "CREATE TABLE failures (session TEXT, slot TEXT, by TEXT NOT NULL, body BLOB NOT NULL,"
        " checksum INTEGER NOT NULL, PRIMARY KEY (session, slot)) WITHOUT ROWID",
        "state": "CREATE TABLE state (writes INTEGER, records INTEGER, artifacts INTEGER, failures INTEGER,"
        " running INTEGER, checksum INTEGER)",
    }
)


class JournalUnusable(ValueError):
    """A journal cannot be read or written: why, in one sentence. `path` is its file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path


class Failure(msgspec.Struct, frozen=True):
    """The error of a run that failed: in which process, and the error as bytes."""

    by: str
    body: bytes


class _State(msgspec.Struct, frozen=True):
    """What the one row of `state` says: writes so far, rows in the other tables, whether a run is going on."""

    writes: int = 0
    records: int = 0
    artifacts: int = 0
    failures: int = 0
    running: int = 0


class Journal:
    """The journal of one enclave. Records have positions, from 1, and stay at them."""

    def __init__(self, path: Path) -> None:
        """Open the journal at the path, or begin one there. Raises JournalUnusable."""
        self._path = path
        self._seal = Seal(path.with_name(path.name + "-seal"))
        self._lock = threading.Lock()
        self._records: dict[int, Record] = {}
        self._bodies: dict[int, str] = {}
        self._artifacts: dict[str, str] = {}
        self._running = False
        self._revision = 0
        with self._explained("cannot be opened"):
            self._connection = sqlite3.connect(
                path, timeout=PATIENCE, check_same_thread=False, isolation_level=None, cached_statements=32
            )
        try:
            with self._explained("cannot be opened"):
                self._open()
        except BaseException:
            self._connection.close()
            raise

    @property
    def records(self) -> Mapping[int, Record]:
        """All records by position, in order; a view that changes with the journal, for the thread that writes it."""
        return MappingProxyType(self._records)

    def snapshot(self) -> Sequence[Record]:
        """All records as they are now, for any thread."""
        with self._lock:
            return tuple(self._records.values())

    @property
    def artifacts(self) -> Mapping[str, str]:
        """The digest of every files artifact's content as it is now, by name; for any thread."""
        with self._lock:
            return dict(self._artifacts)

    @property
    def revision(self) -> int:
        """Another number whenever what is read here may have changed; it counts in this process only."""
        return self._revision

    @property
    def fingerprint(self) -> str:
        """Equal where records and artifacts are, in whatever process."""
        with self._lock:
            return sha256(ascii((sorted(self._bodies.items()), sorted(self._artifacts.items()))).encode()).hexdigest()

    def refresh(self) -> bool:
        """Whether another process has written since the last time; if so, what is read here is up to date then.

        Takes microseconds where nobody has. Raises JournalUnusable.
        """
        with self._lock, self._explained("cannot be read"):
            if self._data_version() == self._seen:
                return False
            self._read()
            return True

    def append(self, record: Record) -> None:
        """Add a record after all others. Raises JournalUnusable."""
        body = encode(record)
        with self._writing() as state:
            position = state.records + 1
            self._connection.execute(
                "INSERT INTO records VALUES (?, ?, ?)", (position, body, _checksum(position, body))
            )
            self._finish(replace(state, records=position))
            self._records[position], self._bodies[position] = record, body
            self._revision += 1

    def put(self, records: Mapping[int, Record]) -> None:
        """Replace records at positions that exist, all of them or none. Raises JournalUnusable."""
        if not records:
            return
        bodies = {position: encode(record) for position, record in records.items()}
        with self._writing() as state:
            self._connection.executemany(
                "UPDATE records SET body = ?, checksum = ? WHERE position = ?",
                [(body, _checksum(position, body), position) for position, body in bodies.items()],
            )
            self._finish(state)
            self._records |= records
            self._bodies |= bodies
            self._revision += 1

    def put_artifacts(self, digests: Mapping[str, str]) -> None:
        """Note the digests of files artifacts by name, new ones and changed ones. Raises JournalUnusable."""
        with self._writing() as state:
            self._connection.executemany(
                "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)",
                [(name, digest, _checksum(name, digest)) for name, digest in digests.items()],
            )
            (count,) = self._connection.execute("SELECT count(*) FROM artifacts").fetchone()
            self._finish(replace(state, artifacts=count))
            self._artifacts |= digests
            self._revision += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """While this lasts, the file says that a run is going on; a process that dies meanwhile leaves it so.

        Raises JournalUnusable where it says so already.
        """
        self._mark(True)
        try:
            yield
        finally:
            self._mark(False)

    @property
    def interrupted(self) -> bool:
        """Whether a process died in the middle of a run. True as well while another process is in one."""
        with self._lock, self._explained("cannot be read"):
            return not self._running and bool(self._state().running)

    def remember_failure(self, session: str, slot: str, by: str, body: bytes) -> None:
        """Keep the error of a run of this session, so that no other process of it tries the same again.

        `slot` is what failed, `by` the process. Those of other sessions are forgotten. Raises JournalUnusable.
        """
        with self._writing() as state:
            self._connection.execute("DELETE FROM failures WHERE session != ?", (session,))
            self._connection.execute(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)",
                (session, slot, by, body, _checksum(session, slot, by, body)),
            )
            (count,) = self._connection.execute("SELECT count(*) FROM failures").fetchone()
            self._finish(replace(state, failures=count))

    def forget_failure(self, session: str, slot: str) -> None:
        """The run that failed has been tried again, with success. Raises JournalUnusable."""
        with self._writing() as state:
            self._connection.execute("DELETE FROM failures WHERE session = ? AND slot = ?", (session, slot))
            (count,) = self._connection.execute("SELECT count(*) FROM failures").fetchone()
            self._finish(replace(state, failures=count))

    def failure(self, session: str, slot: str) -> Failure | None:
        """The error that was kept of a run of this session, by whatever process; None if there is none.

        Raises JournalUnusable.
        """
        query = "SELECT session, slot, by, body, checksum FROM failures WHERE session = ? AND slot = ?"
        with self._lock, self._explained("cannot be read"):
            row = self._connection.execute(query, (session, slot)).fetchone()
            if row is None:
                return None
            self._verify("failure", row)
            return Failure(row[2], row[3])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # how it is read

    def _open(self) -> None:
        # Nothing is read before the file has said that it is a journal: a page that is no database is told by SQLite.
        version, tables = self._version()
        if version > SCHEMA_VERSION:
            raise self._unusable("was made by a newer version of pytest-enclave")
        if version not in (0, SCHEMA_VERSION):
            raise self._unusable("was made by an older version of pytest-enclave")
        if version == 0 and tables:
            raise self._unusable("is not a journal: it has tables of something else")
        self._use_log()
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("BEGIN IMMEDIATE")
        version, tables = self._version()
        if version == 0 and not tables:
            self._begin()
        elif tables != TABLES:
            raise self._unusable("is damaged: its tables are not those of a journal")
        self._connection.execute("COMMIT")
        self._check()
        self._read()

    def _use_log(self) -> None:
        """Where several processes begin a journal at once, SQLite refuses this at once, instead of waiting its turn."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _version(self) -> tuple[int, Mapping[str, str]]:
        """The version that the file says it is of, and the tables in it, which come with the version."""
        rows = self._connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        tables = dict(rows.fetchall())
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        return version, tables

    def _begin(self) -> None:
        """A new journal, unless there has been one: its seal would be there."""
        if self._seal.exists() and self._seal.read() != 0:
            raise self._unusable("is damaged: nothing is left in it")
        self._seal.begin()
        for statement in TABLES.values():
            self._connection.execute(statement)
        row = astuple(_State())
        self._connection.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?)", (*row, _checksum(*row)))
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _check(self) -> None:
        """What SQLite itself finds wrong, and whether all is there that was written."""
        (found,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise self._unusable("is damaged: " + " ".join(str(found).split()))
        sealed = self._seal.read()
        state = self._state()
        if sealed is None:
            raise self._unusable("is incomplete: its seal is missing or damaged")
        if state.writes < sealed:
            raise self._unusable("is incomplete: what was written last is missing")
        failures = self._connection.execute("SELECT session, slot, by, body, checksum FROM failures").fetchall()
        for row in failures:
            self._verify("failure", row)
        if len(failures) != state.failures:
            raise self._unusable(f"is incomplete: it has {len(failures)} of {state.failures} failures")

    def _read(self) -> None:
        """Bring the copy up to date. Records that are as they were stay the same objects."""
        self._connection.execute("BEGIN")
        try:
            state = self._state()
            rows = self._connection.execute("SELECT position, body, checksum FROM records ORDER BY position").fetchall()
            index = self._connection.execute("SELECT name, digest, checksum FROM artifacts ORDER BY name").fetchall()
            seen = self._data_version()
        finally:
            self._connection.execute("COMMIT")
        for found, expected, what in ((rows, state.records, "records"), (index, state.artifacts, "artifacts")):
            if len(found) != expected:
                raise self._unusable(f"is incomplete: it has {len(found)} of {expected} {what}")
        records = {}
        for position, body, checksum in rows:
            self._verify(f"record {position}", (position, body, checksum))
            same = self._bodies.get(position) == body
            records[position] = self._records[position] if same else self._decoded(position, body)
        for row in index:
            self._verify("artifact", row)
        self._revision += 1
        self._bodies = {position: body for position, body, _ in rows}
        self._artifacts = {name: digest for name, digest, _ in index}
        self._records.clear()
        self._records |= records
        self._seen = seen

    def _decoded(self, position: int, body: str) -> Record:
        try:
            return decode(body)
        except ValueError as error:
            raise self._unusable(f"is damaged: record {position} is {error}") from None

    def _data_version(self) -> int:
        """A number that another one's commits change."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _state(self) -> _State:
        rows = self._connection.execute("SELECT * FROM state").fetchall()
        if len(rows) != 1:
            raise self._unusable("is damaged: its state is missing")
        self._verify("state", rows[0])
        return _State(*rows[0][:-1])

    def _verify(self, what: str, row: Sequence[object]) -> None:
        if row[-1] != _checksum(*row[:-1]):
            raise self._unusable(f"is damaged: {what} is not as it was written")

    # how it is written

    @contextmanager
    def _writing(self) -> Iterator[_State]:
        """One write; it counts once `_finish` was called, and not at all where something is raised before."""
        with self._lock, self._explained("cannot be written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._state()
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _finish(self, state: _State) -> None:
        row = astuple(replace(state, writes=state.writes + 1))
        self._connection.execute(
            "UPDATE state SET writes = ?, records = ?, artifacts = ?, failures = ?, running = ?, checksum = ?",
            (*row, _checksum(*row)),
        )
        self._connection.execute("COMMIT")
        self._seal.write(state.writes + 1)

    def _mark(self, running: bool) -> None:
        with self._writing() as state:
            if running and state.running:
                raise self._unusable("is of a half-started enclave: a process died in the middle of a run")
            self._finish(replace(state, running=int(running)))
            self._running = running

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Whatever SQLite or the disk has to say is one sentence about this file."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except JournalUnusable:
            raise
        except sqlite3.DatabaseError as error:
            text = str(error)
            known = {"file is not a database": "is not a journal", "database disk image is malformed": "is damaged"}
            raise self._unusable(f"{known.get(text, what)}: {text}") from None
        except (OSError, ValueError, OverflowError, sqlite3.Error) as error:
            raise self._unusable(f"{what}: {error}") from None

    def _unusable(self, reason: str) -> JournalUnusable:
        return JournalUnusable(self._path, reason)


def _checksum(*cells: object) -> int:
    return crc32(ascii(cells).encode())
