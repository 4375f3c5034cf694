"""Removing what killed processes have left behind, where nobody was there to do it at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.removal import remove_owned
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient


def sweep(client: APIClient, endpoint: str, deadline: float) -> None:
    """Remove all whose owner is known to have ended, until the deadline (monotonic seconds). Raises EngineError.

    What belongs to others is not touched: processes that live, on other machines, in other containers.
    """
    for owner in {Owner.of(marks) for marks in _marks(client)}:
        if owner.is_gone():
            # Somebody else may be removing the same.
            with suppress(EngineError):
                remove_owned(client, endpoint, owner, deadline)


def _marks(client: APIClient) -> Iterator[Mapping[str, str]]:
    """The labels of everything of ours that is on the engine."""
    ours = {"label": [labels.ENCLAVE]}
    with translate("cannot list what enclaves have on the engine"):
        found = [
            *client.containers(all=True, filters=ours),
            *client.networks(filters=ours),
            *(client.volumes(filters=ours)["Volumes"] or []),
            *client.images(all=True, filters=ours),
        ]
    for each in found:
        yield each["Labels"] or {}
