"""A process that commits one instruction after another, and acknowledges each on its standard output."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec.structs import replace

from pytest_enclave.store.journal import Journal
from tests.store.records import RECORD


def main(path: Path, *, forever: bool, count: int, name: str) -> None:
    """Write until killed, or `count` instructions, every third one twice."""
    journal = Journal(path)
    number = 0
    while forever or number < count:
        journal.append(replace(RECORD, message=f"{name} {number}"))
        if number % 3 == 0:
            position = max(journal.records)
            journal.put({position: replace(RECORD, message=f"{name} {number}", stale="changed")})
        journal.put_artifacts({f"{name} {number % 7}": str(number)})
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1
    journal.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), forever=sys.argv[2] == "forever", count=int(sys.argv[3]), name=sys.argv[4])
