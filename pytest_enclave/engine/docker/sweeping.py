"""Removing what killed processes have left behind: by this user's ledger, and what is in no ledger by its owner.

What belongs to others is not touched: processes that live, on other machines, in other containers; nor what has a home
that is still there, as that goes by the ledger it is in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.removal import remove_enclave, remove_labelled
from pytest_enclave.engine.docker.scratch import sweep_scratch
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.errors import EnclaveError, EngineError
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger

if TYPE_CHECKING:
    from docker import APIClient


class Place(msgspec.Struct, frozen=True):
    """An engine: its client and its endpoint; `called` is what users may have called that."""

    client: APIClient
    endpoint: str
    called: Collection[str]


def sweep(place: Place, environ: Mapping[str, str], deadline: float, ended: Owner | None = None) -> list[Leak]:
    """Remove what nobody lives for any more, until the deadline (monotonic seconds); what could not be removed.

    Of what is in no ledger only that of the process `ended`, if there is one: it is known that it has. Raises
    EngineError.
    """

    def is_gone(owner: Owner) -> bool:
        return owner.is_gone() if ended is None else owner == ended

    left = _sweep_ledger(place, environ, deadline)
    for enclave, owner in set(_orphans(place.client, is_gone)):
        mine = [f"{labels.ENCLAVE}={enclave}", *owner.words]
        # Somebody else may be removing the same.
        with suppress(EngineError):
            left += remove_labelled(place.client, place.endpoint, mine, deadline)
    sweep_scratch(is_gone)
    return left


def remove_all(client: APIClient, endpoint: str, enclave: str, deadline: float) -> list[Leak]:
    """Remove all that there is of an enclave, whoever made it, and images of freezes that now nobody needs."""
    try:
        freezes = _freezes_under(client, enclave)
        leaks = remove_enclave(client, endpoint, enclave, deadline)
        if not leaks:
            leaks += remove_labelled(client, endpoint, [f"{labels.ENCLAVE}={enclave}"], deadline)
            for origin, owner in set(_orphans(client, Owner.is_gone, freezes)):
                leaks += remove_labelled(client, endpoint, [f"{labels.ENCLAVE}={origin}", *owner.words], deadline)
        return leaks
    except EngineError:
        # Which tells it, with the command that removes it.
        return remove_enclave(client, endpoint, enclave, deadline)


def _sweep_ledger(place: Place, environ: Mapping[str, str], deadline: float) -> list[Leak]:
    """Remove the enclaves of this user's ledger that are not alive any more."""
    left: list[Leak] = []

    def is_here(entry: Entry) -> bool:
        return entry.engine == "docker" and entry.endpoint in place.called

    def remove(entry: Entry) -> bool:
        leaks = remove_all(place.client, place.endpoint, entry.name, deadline)
        left.extend(leaks)
        return not leaks

    # Without a ledger that can be read, nothing is known of its enclaves.
    with suppress(EnclaveError, OSError):
        Ledger.of(environ).sweep(is_here, remove)
    return left


def _freezes_under(client: APIClient, enclave: str) -> Collection[str]:
    """The freezes that the enclave's containers began with."""
    with translate("cannot list the enclave's containers"):
        found = client.containers(all=True, filters=dict(labels.of_enclave(enclave)))
    return {freeze for each in found if (freeze := (each["Labels"] or {}).get(labels.FROZEN))}


def _orphans(
    client: APIClient, is_gone: Callable[[Owner], bool], freezes: Collection[str] | None = None
) -> Iterator[tuple[str, Owner]]:
    """What is on the engine of enclaves that have no home any more, and whose owners have gone: both of each.

    With `freezes`, only images of these.
    """
    for marks in _marks(client) if freezes is None else _marks_of_images(client, freezes):
        owner = Owner.of(marks)
        if not _has_home(marks.get(labels.HOME, "")) and is_gone(owner):
            yield marks[labels.ENCLAVE], owner


def _has_home(home: str) -> bool:
    """Whether an enclave's home is there, or may be: other users' cannot be seen."""
    if not home:
        return False
    try:
        os.stat(home)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _marks(client: APIClient) -> Iterator[Mapping[str, str]]:
    """The labels of everything of ours that is on the engine."""
    ours = {"label": [labels.ENCLAVE]}
    with translate("cannot list what enclaves have on the engine"):
        found = [
            *client.containers(all=True, filters=ours),
            *client.networks(filters=ours),
            *(client.volumes(filters=ours)["Volumes"] or []),
        ]
        used = {each["ImageID"] for each in found if "ImageID" in each}
        # Forks that live may rest on the images of an enclave that is gone.
        found += [image for image in client.images(all=True, filters=ours) if image["Id"] not in used]
    for each in found:
        yield each["Labels"] or {}


def _marks_of_images(client: APIClient, freezes: Collection[str]) -> Iterator[Mapping[str, str]]:
    with translate("cannot list the images of a freeze"):
        for freeze in freezes:
            for image in client.images(all=True, filters=dict(labels.of_freeze(freeze))):
                yield image["Labels"] or {}
