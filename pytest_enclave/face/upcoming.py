"""What the tests of a session ask for: so that an engine may get ready, and an enclave be frozen in time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from pytest_enclave.face.demands import demand_of, may_fork

if TYPE_CHECKING:
    from pytest_enclave.enclave.demand import Demand
    from pytest_enclave.face.options import Settings

WORTH_WHILE = 3
"""Further fresh enclaves of a package for which getting ready pays, even if tests last too short to hide it: that
takes about as long as making an enclave, and each that is made after it takes a third."""


def expects_more(item: pytest.Item, demand: Demand, settings: Settings) -> bool:
    """Whether so many tests after this one want a fresh enclave of the same package, with the same arguments.

    With pytest-xdist each worker counts all of them, although it will not run them all.
    """
    items = item.session.items
    later = islice(items, items.index(item) + 1, None) if item in items else ()
    alike = (True for other in later if _asks_for_another(other, demand, settings))
    return len(list(islice(alike, WORTH_WHILE))) == WORTH_WHILE


def forked_slots(items: Iterable[pytest.Item], settings: Settings) -> frozenset[tuple[str, str]]:
    """The slots of all demands for forks; with pytest-xdist also of tests that another worker runs."""
    demands = (_demand(item, settings) for item in items if may_fork(item))
    return frozenset(demand.slot for demand in demands if demand is not None and demand.isolate == "fork")


def _asks_for_another(item: pytest.Item, demand: Demand, settings: Settings) -> bool:
    asked = _demand(item, settings)
    if asked is None:
        return False
    return (asked.isolate is True or settings.no_cache) and asked.request.key == demand.request.key


def _demand(item: pytest.Item, settings: Settings) -> Demand | None:
    """The demand of a test, None where it has none."""
    from pytest_enclave.errors import EnclaveError

    if "enclave" not in getattr(item, "fixturenames", ()):
        return None
    try:
        return demand_of(item, settings)
    except (EnclaveError, pytest.UsageError):
        # That is told when its turn comes.
        return None
