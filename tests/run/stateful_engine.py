"""A simulated engine whose services answer by what they are: config, files, and what was written in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_enclave.engine.protocol import EnclaveId, ExecResult, HttpRequest, HttpResponse, ServiceSpec
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.engine.simulated.files import Directories, Files
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import EnclaveError
from pytest_enclave.plan.connections import ALLOWED
from pytest_enclave.plan.service import PortSpec
from tests.run.reuse_plans import says


class StatefulSite(SimulatedSite):
    """Commands `set KEY VALUE` and `get KEY`, requests `/KEY`, files `/state/KEY`; in a new service all are gone.

    `reach SERVICE` tells what percentage of packets to there is lost.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.states: dict[str, dict[str, str]] = {}

    def _start(self, spec: ServiceSpec, artifacts: Mapping[str, Path]) -> EnclaveError | None:
        self.states[spec.name] = {}
        return super()._start(spec, artifacts)

    def mounted(self, name: str) -> list[str]:
        """The content of every file mounted in a service."""
        tree = self._files[name]._tree()
        return [file.read_text() for _, file in sorted(tree.items()) if isinstance(file, Path) and file.is_file()]

    def exec(self, name: str, command: Sequence[str], deadline: float | None) -> ExecResult:
        result = super().exec(name, command, deadline)
        match list(command):
            case ["set", key, value]:
                self.states[name][key] = value
            case ["get", key]:
                value = self.states[name].get(key, "nothing")
            case ["reach", other]:
                lost = self.shaped().get((name, other), ALLOWED).loss
                value = f"{lost:g}"
            case _:
                return result
        return ExecResult(0, self._says(name, value))

    def request(self, name: str, port: PortSpec, request: HttpRequest, deadline: float | None) -> HttpResponse:
        super().request(name, port, request, deadline)
        value = self.states[name].get(request.endpoint[1:], "nothing")
        return HttpResponse(200, {}, self._says(name, value).encode())

    def read(self, name: str, path: str) -> Iterator[bytes]:
        self._note("read", name=name, path=path)
        state = {f"/state/{key}": value.encode() for key, value in self.states[name].items()}
        return Files(state, {}, {}, Directories()).tar(path)

    def _says(self, name: str, value: str) -> str:
        spec = self._processes[name].spec
        return says(spec.image, "".join(spec.cmd or ()), spec.env_vars.get("V", ""), self.mounted(name), value)


class StatefulEngine(SimulatedEngine):
    """Opens such sites."""

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> StatefulSite:
        site = StatefulSite(enclave, self._clock, self._script, self._know)
        self._know(site)
        return site
