"""What the ledger says of one enclave."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """An enclave: where it is, whose, and for whom.

    `engine` and `endpoint` are as users give them (`--enclave-engine`, `--enclave-docker-host`), `key` is equal for all
    demands that it serves, "" where it is one test's own. Times are in seconds since the epoch; `kept_until` is None
    where it goes with its session. `ready` is said when it has been made. `package` is what users call what runs in it.
    `holder` is the id of the process that it lives for.
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


def write(entry: Entry, path: Path) -> None:
    """Write it to a file; whoever reads meanwhile finds the old one or the new one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(entry)))
    os.replace(new, path)


def read(path: Path) -> Entry:
    """The entry in a file. Raises OSError, and ValueError where the file is none of this version."""
    try:
        return Entry(**json.loads(path.read_text()))
    except TypeError as error:
        raise ValueError(f"{path} is no entry of an enclave: {error}") from None
