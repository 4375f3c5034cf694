"""What the ledger says of one enclave."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
from msgspec.structs import asdict, replace

ENTRY = "entry.json"
"""In the home of an enclave: its entry as it is now."""

FIRST = "made.json"
"""In the home of an enclave: its entry as it was when it was made, for when the other is damaged."""


class Entry(msgspec.Struct, frozen=True):
    """An enclave: where it is, whose, and for whom.

    `engine` and `endpoint` are as users give them (`--enclave-engine`, `--enclave-docker-host`), `key` is equal for all
    demands that it serves, "" where it is one test's own. Times are in seconds since the epoch; `kept_until` is None
    where it goes with its session. `ready` is said when it has been made. `package` is what users call what runs in it,
    `kind` what the enclave is to tests, `args` the package's arguments as JSON, "" without any. `holder` is the id of
    the process that it lives for.

    `damage` says what is wrong with what was written down; then the rest is as it was when the enclave was made, or
    `engine` is "", as nothing else is known.
    """

    name: str
    engine: str
    session: str
    created: float
    endpoint: str = ""
    key: str = ""
    kept_until: float | None = None
    ready: bool = False
    package: str = ""
    holder: int = 0
    kind: str = ""
    args: str = ""
    damage: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether it stays, whoever uses it."""
        return self.kept_until is not None and time.time() < self.kept_until


_TYPES = {"created": (int, float), "kept_until": (int, float, type(None)), "ready": (bool,), "holder": (int,)}
"""Those of fields that are not texts."""


def write(entry: Entry, path: Path) -> None:
    """Write it to a file; whoever reads meanwhile finds the old one or the new one."""
    new = path.with_suffix(".new")
    told = asdict(entry)
    del told["damage"]
    new.write_text(json.dumps(told))
    os.replace(new, path)


def read(path: Path) -> Entry:
    """The entry in a file. Raises OSError, and ValueError where the file is none of this version."""
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    try:
        # A later version may tell more.
        found = Entry(**{name: told[name] for name in Entry.__struct_fields__ if name in told})
    except TypeError:
        raise ValueError("is of another version, or of something else") from None
    for name in Entry.__struct_fields__:
        value = getattr(found, name)
        if not isinstance(value, _TYPES.get(name, (str,))):
            raise ValueError(f"has {value!r} as `{name}`")
    return found


def of_home(home: Path) -> Entry | None:
    """The entry of the enclave whose home that is, as far as it can be read; None without a home or an entry."""
    try:
        return _own(home, ENTRY)
    except FileNotFoundError:
        damage = "is gone"
    except OSError as error:
        damage = f"cannot be read: {error.strerror}"
    except ValueError as error:
        damage = str(error)
    try:
        return replace(_own(home, FIRST), damage=damage)
    except (OSError, ValueError):
        pass
    try:
        there = any((home / name).exists() for name in (ENTRY, FIRST))
        return Entry(home.name, "", "", home.stat().st_mtime, damage=damage) if there else None
    except OSError:
        return None


def _own(home: Path, name: str) -> Entry:
    found = read(home / name)
    # A directory that was copied is not to be the end of the enclave that it is a copy of.
    if found.name != home.name:
        raise ValueError(f"is that of {found.name}")
    return found
