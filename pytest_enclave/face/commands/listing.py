"""`--enclave-ls`: what enclaves there are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from pytest_enclave.engine.select import place_of
from pytest_enclave.face.commands.known import Known, Standing
from pytest_enclave.face.commands.streams import tell
from pytest_enclave.report.enclave_table import Row, enclave_table
from pytest_enclave.report.look import Look
from pytest_enclave.report.summary import moment

NONE = "there are no enclaves"


def print_enclaves(known: Sequence[Known], *, verbose: bool = False) -> int:
    """A table of all, the oldest first."""
    if not known:
        tell(NONE)
        return 0
    look = Look(verbose, shutil.get_terminal_size().columns)
    now = time.time()
    for line in enclave_table([_row(each, now) for each in known], look):
        tell(line)
    return 0


def standing_text(known: Known) -> str:
    """`in use`, `kept until 22 Nov 18:11`, `left behind`."""
    if known.standing is Standing.KEPT and known.entry.kept_until is not None:
        return f"kept until {moment(known.entry.kept_until)}"
    return known.standing.value


def _row(known: Known, now: float) -> Row:
    entry = known.entry
    return Row(
        name=entry.name,
        engine=place_of(entry.engine, entry.endpoint),
        package=entry.package,
        services=tuple(sorted(known.services)),
        trouble=known.trouble,
        age=max(0.0, now - entry.created),
        standing=standing_text(known),
    )
