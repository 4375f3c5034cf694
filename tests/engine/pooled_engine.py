"""The Docker engine for tests of pods: whatever its services are called, each is started in a pod."""

from __future__ import annotations

import threading
from collections.abc import Collection

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.plots import Ground, Plot
from pytest_enclave.engine.docker.pods import Place, make_pod
from pytest_enclave.engine.docker.site import DockerSite, SitePlan
from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec


class PodForEach(Plot):
    """A plot that has no pods at first, and makes each as it is asked for."""

    def pod_for(self, spec: ServiceSpec) -> str | None:
        """A pod, but where one cannot be."""
        if super().pod_for(spec) is None and not spec.public_ports:
            files, address = self._files_of(spec.name), spec.address.ip_address
            assert self._ground.files is not None
            self._ground.files.write(files, spec.name, address)
            place = Place(self.name, spec.name, address, files)
            self._pods[spec.name] = make_pod(self._ground.client, place, self._marks)
        return super().pod_for(spec)


class PooledEngine(DockerEngine):
    """Enclaves on plots of their own, which go with them."""

    _ground: Ground | None = None

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> DockerSite:
        """A new enclave on a new plot."""
        assert self._poolable()
        if self._ground is None:
            self._ground = Ground(self._connected().sdk, self._removing, self._networks(), self._architecture())
        plot = PodForEach(self._ground, ())
        plot.get_ready(threading.Event())
        plan = SitePlan(self._networks(), self._binds, self.capacity, plot, remove)
        return DockerSite(self._connected(), enclave, plan, self._http, self._removing)


def remove(plot: Plot) -> None:
    """Nobody else will want it."""
    assert plot.remove() == []
