"""What the tests of a session ask for.

So that an engine may get ready, an enclave be frozen in time, and workers begin with different enclaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from pytest_enclave.face.demands import demand_of, may_fork
from pytest_enclave.face.faults import fault_of
from pytest_enclave.face.items import needs_enclave
from pytest_enclave.face.star_tests import StarTest

if TYPE_CHECKING:
    from pytest_enclave.enclave.demand import Demand
    from pytest_enclave.face.distribution import Group
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


def groups_of(items: Sequence[pytest.Item], settings: Settings) -> list[Group]:
    """How the tests are to be handed out to the workers of pytest-xdist: a group for each; none if all are free."""
    # Asked for by workers of pytest-xdist alone.
    from pytest_enclave.face.distribution import APART, FREE, Group

    on_engine = settings.star_tests == "engine"
    if not any(needs_enclave(item) or (on_engine and isinstance(item, StarTest)) for item in items):
        return []
    demands = [_demand(item, settings) for item in items]
    runs: dict[str, set[str]] = {}
    for demand in demands:
        if demand is not None:
            runs.setdefault(demand.key, set()).add(demand.request.key)

    def group(item: pytest.Item, demand: Demand | None) -> Group:
        if demand is None:
            return APART if on_engine and isinstance(item, StarTest) else FREE
        if demand.isolate is True or settings.no_cache:
            return APART
        grows = len(runs[demand.key]) > 1
        if grows or demand.scope:
            return Group("together", demand.key)
        if fault_of(item) and not demand.isolate:
            # Each has the enclave for itself, so several workers would only wait for each other.
            return Group("together", f"{demand.key} with faults")
        return Group("shared", demand.key)

    return [group(item, demand) for item, demand in zip(items, demands, strict=True)]


def _asks_for_another(item: pytest.Item, demand: Demand, settings: Settings) -> bool:
    asked = _demand(item, settings)
    if asked is None:
        return False
    return (asked.isolate is True or settings.no_cache) and asked.request.key == demand.request.key


def _demand(item: pytest.Item, settings: Settings) -> Demand | None:
    """The demand of a test, None where it has none."""
    from pytest_enclave.errors import EnclaveError

    if not needs_enclave(item):
        return None
    try:
        return demand_of(item, settings)
    except (EnclaveError, pytest.UsageError):
        # That is told when its turn comes.
        return None
