"""What is done to an enclave's services: made when the first of it is done.

A session that finds its enclave as it was left only looks, and needs neither these modules nor the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.artifacts import ArtifactMounts
from pytest_enclave.engine.docker.freezing import Freezer
from pytest_enclave.engine.docker.lifecycle import Lifecycle
from pytest_enclave.engine.docker.starting import Starter

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_enclave.engine.docker.events import Follower
    from pytest_enclave.engine.docker.gate import Gate
    from pytest_enclave.engine.docker.persistent import PersistentVolumes
    from pytest_enclave.engine.docker.shaping import Shaping
    from pytest_enclave.engine.docker.site import SitePlan


class Deeds:
    """Starts, changes and freezes the services of one enclave. `marks` are its labels.

    Raises EngineError where the engine does not tell what is needed.
    """

    def __init__(
        self,
        client: APIClient,
        enclave: str,
        marks: Mapping[str, str],
        plan: SitePlan,
        gate: Gate,
        follower: Follower,
        shaping: Shaping,
        persistent: PersistentVolumes,
    ) -> None:
        mounts = ArtifactMounts(client, enclave, marks, plan.binds())
        self.starter = Starter(
            client, enclave, marks, mounts, persistent, follower, gate, plan.capacity(), shaping, plan.plot
        )
        self.lifecycle = Lifecycle(client, follower, shaping)
        self.freezer = Freezer(client, enclave, marks, gate, self.lifecycle, persistent)
