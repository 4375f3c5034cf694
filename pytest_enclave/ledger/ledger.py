"""The ledger: this user's record of enclaves, on disk.

    enclaves/NAME/   the home of an enclave: entry.json, made.json, lease, journal.sqlite, artifacts/
    sessions/ID      locked while the main process of the session lives
    keys/HASH        locked by whoever makes the enclave of a key
    making           shared by whoever makes the enclave of any key
    lock             locked while the ledger is changed

A home is there before anything of the enclave is made, and goes when all of it is removed. Every process that uses an
enclave shares its `lease`. An enclave is *alive* while anybody does, or while it is kept, or, where it is shared, while
the main process of its session lives. One that is not is removed by whoever finds it, for which he takes the lease.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec.structs import replace

from pytest_enclave import places
from pytest_enclave.errors import EnclaveError
from pytest_enclave.ledger import entry as entries
from pytest_enclave.ledger.entry import ENTRY, FIRST, Entry
from pytest_enclave.ledger.filesystem import remote_type
from pytest_enclave.ledger.locks import SharedLock, is_locked
from pytest_enclave.ledger.session import Session, lives

YOUNGEST = 60.0
"""Seconds that a home without an entry must be old to be removed: somebody may just be making it."""


LOOKS = 10
"""How often a lease is tried to be had: whoever looks whether anybody has it, has it for a moment."""


class Home(msgspec.Struct, frozen=True):
    """The home of an enclave that this process uses: its lease is shared until it is left."""

    path: Path
    lease: SharedLock

    def leave(self) -> None:
        """Use it no more."""
        self.lease.release()


class Claim(msgspec.Struct, frozen=True):
    """An enclave that this process has got: its entry and home, and whether an earlier session had kept it."""

    entry: Entry
    home: Home
    was_kept: bool


class Ledger(msgspec.Struct, frozen=True):
    """The ledger in a directory, which is made when it is first written to. Safe with several threads and processes."""

    root: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Ledger:
        """That of a user with this environment. Raises EnclaveError where the user has no home directory."""
        return cls(places.directory(environ, "XDG_STATE_HOME", ".local/state", "to record enclaves") / "pytest-enclave")

    # sessions

    def begin_session(self) -> Session:
        """Begin one, in its main process."""
        with self._changing():
            for path in (self.root / "sessions").iterdir():
                if not lives(path.parent, path.name):
                    path.unlink(missing_ok=True)
            self._sweep_keys()
            return Session.begin(self.root / "sessions", os.urandom(8).hex())

    def lives(self, session: str) -> bool:
        """Whether the main process of a session lives."""
        return lives(self.root / "sessions", session)

    @property
    def doubt(self) -> str:
        """Why nobody should rely on what it says of who lives, and what to do; "" where there is no reason."""
        kind = remote_type(self.root)
        if not kind:
            return ""
        return (
            f"enclaves are recorded in {self.root}, on a file system of another machine ({kind}): locks may not hold "
            "there, so sessions might remove each other's enclaves; set XDG_STATE_HOME to a directory of this machine"
        )

    # what there is

    def entries(self) -> list[Entry]:
        """All enclaves, the oldest first; also those whose entry is damaged."""
        found = [entry for path in self._homes() if (entry := entries.of_home(path)) is not None]
        return sorted(found, key=lambda entry: entry.created)

    def entry(self, name: str) -> Entry | None:
        """The enclave of that name; None if it is gone."""
        return entries.of_home(self.path(name))

    def of_session(self, session: str) -> list[Entry]:
        """All enclaves of a session, of all its processes, the oldest first; also what is kept."""
        return [entry for entry in self.entries() if entry.session == session]

    def path(self, name: str) -> Path:
        """The home of the enclave of that name, which may not be there."""
        return self.root / "enclaves" / name

    def is_alive(self, entry: Entry) -> bool:
        """Whether it is used, kept, or may be asked for by the session that it belongs to."""
        return entry.is_kept or self._is_used(entry)

    def is_used(self, entry: Entry) -> bool:
        """Whether a process uses it, or, where it is shared and not kept, its session may ask for it."""
        # Whoever looks has its lease for a moment, which nobody wants to have while the ledger is locked.
        with self._changing():
            return self._is_used(entry)

    def _is_used(self, entry: Entry) -> bool:
        if entry.key and not entry.is_kept and self.lives(entry.session):
            return True
        return is_locked(self.path(entry.name) / "lease")

    # how enclaves come and go

    def enter(self, entry: Entry) -> Home:
        """A home for an enclave that is going to be made. Raises EnclaveError where it cannot be written."""
        with self._changing():
            path = self.path(entry.name)
            scratch = path.with_name(f".{entry.name}")
            try:
                scratch.mkdir(mode=0o700)
                lease = SharedLock(scratch / "lease")
                lease.share()
                for name in (FIRST, ENTRY):
                    entries.write(entry, scratch / name)
                scratch.rename(path)
                return Home(path, lease)
            except OSError as error:
                shutil.rmtree(scratch, ignore_errors=True)
                raise self._unwritable(error) from None
            except BaseException:
                # A Ctrl-C may come at any moment; nobody else knows of it yet.
                for place in (scratch, path):
                    shutil.rmtree(place, ignore_errors=True)
                raise

    def change(self, name: str, **fields: object) -> None:
        """Say something else of an enclave. One that is gone stays gone."""
        with self._changing(), contextlib.suppress(FileNotFoundError):
            try:
                if (entry := self.entry(name)) is not None and entry.engine:
                    entries.write(replace(entry, **fields), self.path(name) / ENTRY)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise self._unwritable(error) from None

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """One process at a time makes the enclave of a key; whoever comes second finds it made."""
        # An enclave that is there already is got without: importing it takes longer than all of that.
        from filelock import FileLock

        self._make()
        # Nobody removes the files of locks meanwhile: who waits for one would then have another than who comes later.
        used = SharedLock(self.root / "making")
        used.share()
        try:
            with FileLock(self.root / "keys" / sha256(key.encode()).hexdigest()[:32], poll_interval=0.01):
                yield
        finally:
            used.release()

    def claim(self, key: str, session: Session, *, kept: bool) -> Claim | None:
        """The enclave for a key: that of this session, or else, if `kept`, one that was kept; None if none is ready.

        What was kept belongs to this session from then on, and is kept no more.
        """
        with self._changing():
            found = [entry for entry in self.entries() if entry.key == key and entry.ready and not entry.damage]
            for entry in reversed(found):
                shared = self._share(entry, session)
                home = shared or (self._take_over(entry) if kept else None)
                if home is not None:
                    now = replace(entry, session=session.id, holder=session.holder, kept_until=None)
                    try:
                        if now != entry:
                            entries.write(now, home.path / ENTRY)
                    except OSError as error:
                        home.leave()
                        raise self._unwritable(error) from None
                    return Claim(now, home, was_kept=shared is None)
        return None

    def _share(self, entry: Entry, session: Session) -> Home | None:
        return self.visit(entry.name) if entry.session == session.id else None

    def _take_over(self, entry: Entry) -> Home | None:
        if not entry.is_kept or self.lives(entry.session):
            return None
        home = Home(self.path(entry.name), SharedLock(self.path(entry.name) / "lease"))
        with contextlib.suppress(FileNotFoundError):
            return home if _patiently(home.lease.take) and home.lease.share() else None
        return None

    def visit(self, name: str) -> Home | None:
        """The home of an enclave, so that nobody removes it meanwhile; None if it is gone or somebody is doing so."""
        home = Home(self.path(name), SharedLock(self.path(name) / "lease"))
        try:
            return home if _patiently(home.lease.share) else None
        except FileNotFoundError:
            return None

    def condemn(self, entry: Entry, *, alive: bool = False) -> Home | None:
        """Take an enclave that is not alive, so that nobody else uses or removes it; None if somebody does.

        With `alive`, also one that is kept or may be asked for, if but nobody uses it.
        """
        with self._changing():
            # It may have been kept, or claimed, since it was looked at.
            now = self.entry(entry.name)
            if now is None or (not alive and self.is_alive(now)):
                return None
            home = Home(self.path(entry.name), SharedLock(self.path(entry.name) / "lease"))
            # It may just be gone.
            with contextlib.suppress(FileNotFoundError):
                return home if home.lease.take(wait=False) else None
            return None

    def forget(self, home: Home) -> None:
        """Remove a home: of the enclave nothing is left."""
        # Whoever just looks whether it is alive would make its lease anew while it is being removed.
        going = home.path.with_name(f".{home.path.name}")
        with contextlib.suppress(OSError):
            home.path.rename(going)
        for path in (home.path, going):
            shutil.rmtree(path, ignore_errors=True)
        home.leave()

    def sweep(self, mine: Callable[[Entry], bool], remove: Callable[[Entry], bool]) -> None:
        """Remove what is not alive: `remove` tells whether all of an enclave could be, on an engine that is `mine`."""
        for entry in self.entries():
            if mine(entry) and not self.is_alive(entry) and (home := self.condemn(entry)) is not None:
                try:
                    if remove(entry):
                        self.forget(home)
                finally:
                    home.leave()
        self._sweep_unfinished()
        self._sweep_keys()

    def _sweep_unfinished(self) -> None:
        """Homes that somebody was killed in the middle of making, or of removing."""
        place = self.root / "enclaves"
        for path in place.iterdir() if place.is_dir() else ():
            with contextlib.suppress(OSError):
                unfinished = path.name.startswith(".") or entries.of_home(path) is None
                if unfinished and time.time() - path.stat().st_mtime > YOUNGEST:
                    shutil.rmtree(path, ignore_errors=True)

    def _sweep_keys(self) -> None:
        """Locks of keys, while nobody makes anything."""
        used = SharedLock(self.root / "making")
        with contextlib.suppress(OSError):
            try:
                if used.take(wait=False):
                    for path in (self.root / "keys").iterdir():
                        path.unlink(missing_ok=True)
            finally:
                used.release()

    def _homes(self) -> list[Path]:
        place = self.root / "enclaves"
        return [path for path in place.iterdir() if not path.name.startswith(".")] if place.is_dir() else []

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._make()
        lock = SharedLock(self.root / "lock")
        try:
            lock.take()
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    def _make(self) -> None:
        try:
            for name in ("enclaves", "sessions", "keys"):
                (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            state = os.stat(self.root)
            if state.st_uid != os.geteuid():
                raise PermissionError(1, "it is another user's")
            if state.st_mode & 0o077:
                # What services are given may be nobody else's to know, and what is unpickled nobody else's to write.
                self.root.chmod(0o700)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> EnclaveError:
        return EnclaveError(
            f"enclaves cannot be recorded in {self.root}: {error.strerror or error}",
            remedy="set XDG_STATE_HOME to the path of a directory that can be written",
        )


def _patiently(lock: Callable[..., bool]) -> bool:
    """Have a lock, if nobody has it for longer than a look at who has it takes."""
    for _ in range(LOOKS):
        if lock(wait=False):
            return True
        time.sleep(0.005)
    return False
