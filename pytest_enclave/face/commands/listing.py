"""`--enclave-ls`: what enclaves there are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pytest_enclave.engine.select import place_of
from pytest_enclave.face.commands.known import Known, Standing
from pytest_enclave.face.commands.streams import tell
from pytest_enclave.report.enclave_table import Row, enclave_table
from pytest_enclave.report.look import Look
from pytest_enclave.report.masking import Secrets, shown_arguments
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
        engine=place_of(entry.engine, entry.endpoint) or "?",
        package=entry.package,
        services=None if known.trouble else tuple(sorted(known.services)),
        troubles=tuple(_troubles(known)),
        age=max(0.0, now - entry.created),
        standing=standing_text(known),
        kind=entry.kind,
        args=_args(known),
    )


def _troubles(known: Known) -> Iterator[str]:
    if known.entry.damage:
        yield (
            f"its entry in the ledger {known.entry.damage}; "
            f"pytest --enclave-clean={known.name} removes what there is of it"
        )
    if known.trouble:
        yield f"its journal {known.trouble}"


def _args(known: Known) -> str:
    # What is no JSON was not written by us, so nothing is known of secrets in it.
    with suppress(ValueError):
        return Secrets.of_configs(known.services).mask(shown_arguments(known.entry.args))
    return ""
