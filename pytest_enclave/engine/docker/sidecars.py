"""Shaping from within: beside each service that something is between, a container in its network namespace.

It needs no more than Python in its image, and the right to change that network; our program is put into it. How packets
travel is written down in the enclave's home. Sidecars are the enclave's, and go with it.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.commands import run_command
from pytest_enclave.engine.docker.containers import create_helper, remove_helper
from pytest_enclave.engine.docker.local_shaper import checked
from pytest_enclave.engine.docker.shape import NOTHING, Running, Shape, Surroundings
from pytest_enclave.engine.docker.sidecar_image import have_image
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.protocol import DeadlineExceeded, NotReached
from pytest_enclave.errors import EngineError

FILES = (
    "__init__.py",
    "engine/__init__.py",
    "engine/docker/__init__.py",
    "engine/docker/shaper/*.py",
    "linux/__init__.py",
    "linux/delays.py",
    "linux/fates.py",
    "linux/netfilter.py",
    "linux/netlink.py",
    "linux/packet_queue.py",
    "linux/syscalls.py",
)
"""What is put into sidecars, of our package."""

PLACE = "/enclave-shaper"
"""Where that is in a sidecar."""

PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pytest_enclave.engine.docker.shaper.{} import {} as main; main()"
)

PATIENCE = 15.0
"""Seconds that a sidecar may take to answer."""

AT_A_TIME = 4
"""Sidecars that are made at the same time."""


class _Sidecar(msgspec.Struct, frozen=True):
    """A sidecar, and the service's container that it is beside."""

    service: str
    container: str
    sidecar: str


class _State(msgspec.Struct, frozen=True):
    """What was said, and whom it was said to."""

    shape: Shape = NOTHING
    addresses: Mapping[str, str] = msgspec.field(default_factory=dict)
    sidecars: Mapping[str, _Sidecar] = msgspec.field(default_factory=dict)


class Sidecars:
    """The sidecars of an enclave, whoever has made them. Whoever changes something is the only one to do so."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        directory = around.notes.directory
        self._file = directory / "connections" if directory is not None else None
        # Of an enclave without a home, which only this process uses.
        self._own: _State | None = None

    @property
    def is_on(self) -> bool:
        """Whether there may be any. Costs no call."""
        return self._own is not None if self._file is None else self._file.exists()

    def shape(self, shape: Shape, addresses: Mapping[str, str], running: Running) -> None:
        """Have this and nothing else. Raises EngineError."""
        before = self._read()
        if not self.is_on:
            have_image(self._around.client, self._around.plan)
        # Whoever starts a service from here on finds it.
        self._write(_State(shape, addresses, before.sidecars))
        try:
            there = {name: it for name, it in running().items() if name in addresses}
            wanted = {name: it for name, it in there.items() if shape.names(name) or name in before.sidecars}
            state = _State(shape, addresses, self._beside(wanted, before))
            self._push(state, before)
        except BaseException:
            self._write(before)
            with suppress(EngineError):
                self._push(before, before)
            raise
        self._write(state)

    def shaped(self) -> Shape:
        """What there is; nothing where a sidecar is missing. Raises EngineError."""
        state = self._read()
        if not state.shape.connections:
            return NOTHING
        there = self._there()
        for container, marks in there.items():
            name = marks.get(labels.SERVICE)
            if name is not None and state.shape.names(name):
                known = state.sidecars.get(name)
                if known is None or known.container != container or known.sidecar not in there:
                    return NOTHING
        return state.shape

    def names(self, service: str) -> bool:
        """Whether it was said that something is between this service and others."""
        return self._read().shape.names(service)

    def starting(self, name: str) -> None:
        """What goes to the service is shaped where it leaves, until it has a sidecar. Raises EngineError."""
        before = self._read()
        if name in before.sidecars:
            others = {each: it for each, it in before.sidecars.items() if each != name}
            state = _State(before.shape, before.addresses, others)
            self._push(state, before)
            self._write(state)

    def started(self, name: str, address: str, container: str) -> None:
        """A service was started. Raises EngineError."""
        before = self._read()
        if not before.shape.names(name):
            return
        state = _State(
            before.shape,
            {**before.addresses, name: address},
            {**before.sidecars, **self._beside({name: container}, before)},
        )
        self._push(state, before)
        self._write(state)

    def end(self) -> None:
        """Forget them: they go with the enclave."""
        self._own = None
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _beside(self, containers: Mapping[str, str], before: _State) -> dict[str, _Sidecar]:
        """A sidecar that runs beside each of these. Raises EngineError."""
        there = self._there()

        def have(service: str) -> _Sidecar:
            container = containers[service]
            known = before.sidecars.get(service)
            if known is not None and known.container == container and self._is_beside(known, there):
                return known
            return _Sidecar(service, container, self._make(service, container))

        return {each.service: each for each in RealClock().map(have, list(containers), AT_A_TIME)}

    def _is_beside(self, known: _Sidecar, there: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether it runs, and has since its service was started."""
        if known.sidecar not in there:
            return False
        with translate(f'cannot inspect the container of service "{known.service}"'):
            ours, theirs = (
                self._around.client.inspect_container(each)["State"]["StartedAt"]
                for each in (known.sidecar, known.container)
            )
        return str(ours) > str(theirs)

    def _make(self, service: str, container: str) -> str:
        """A new sidecar. Raises EngineError."""
        config = {
            "Image": self._around.plan.image,
            "Entrypoint": ["python3", "-I", "-S", "-c", PROGRAM.format("serving", "main_inside"), PLACE, PLACE],
            "Cmd": [],
            "User": "0",
            "Labels": {**self._around.marks, labels.SHAPER: service},
            "HostConfig": {
                "NetworkMode": f"container:{container}",
                "CapDrop": ["ALL"],
                "CapAdd": ["NET_ADMIN"],
            },
        }
        client = self._around.client
        with translate(f'cannot start the container that shapes the traffic of service "{service}"'):
            # No service's container has such a name.
            sidecar = create_helper(client, config, f"{self._around.enclave}.{service}")
            try:
                client.put_archive(sidecar, "/", _program())
                client.start(sidecar)
            except BaseException:
                remove_helper(client, sidecar)
                raise
        return sidecar

    def _push(self, state: _State, before: _State) -> None:
        """Tell all sidecars, first those that were not there before. Raises EngineError."""
        there = self._there()
        sidecars = [each for each in state.sidecars.values() if each.container in there]
        everybody = {each.service for each in sidecars}

        def tell(each: _Sidecar) -> None:
            ways = {ends: it for ends, it in state.shape.connections.items() if each.service in ends}
            names = {each.service, *(name for ends in ways for name in ends)}
            request = {
                "do": "shape",
                **Shape(ways, state.shape.seed).written(),
                "addresses": {name: state.addresses[name] for name in names},
                "services": [[each.service, each.container, 0]],
                "elsewhere": sorted(everybody - {each.service}),
            }
            self._ask(each, request)

        known = set(before.sidecars.values())
        # What goes to a service that has one now is held where it leaves, until the others know that it has.
        RealClock().map(tell, [each for each in sidecars if each not in known], AT_A_TIME)
        RealClock().map(tell, [each for each in sidecars if each in known], AT_A_TIME)

    def _ask(self, sidecar: _Sidecar, request: Mapping[str, Any]) -> None:
        where = f'the container that shapes the traffic of service "{sidecar.service}"'
        command = ["python3", "-I", "-S", "-c", PROGRAM.format("asking", "main"), PLACE, PLACE, json.dumps(request)]
        try:
            deadline = time.monotonic() + PATIENCE
            result = run_command(self._around.client, sidecar.sidecar, command, deadline, where)
        except (NotReached, DeadlineExceeded) as error:
            raise EngineError(f"{where} does not answer: {error}") from None
        said = "".join(result.output.strip().splitlines()[-1:])
        try:
            answer = json.loads(said) if result.code == 0 else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(f"{where} does not answer: {said or 'it says nothing'}")
        checked(answer)

    def _there(self) -> dict[str, Mapping[str, str]]:
        """The enclave's containers that run, with their labels. Raises EngineError."""
        with translate("cannot list the enclave's containers"):
            found = self._around.client.containers(filters=dict(labels.of_enclave(self._around.enclave)))
        return {each["Id"]: each["Labels"] for each in found}

    def _read(self) -> _State:
        if self._file is None:
            return self._own or _State()
        try:
            written = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return _State()
        sidecars = {each[0]: _Sidecar(*each) for each in written["sidecars"]}
        return _State(Shape.read(written), written["addresses"], sidecars)

    def _write(self, state: _State) -> None:
        if self._file is None:
            self._own = state
            return
        sidecars = [[each.service, each.container, each.sidecar] for each in state.sidecars.values()]
        written = {**state.shape.written(), "addresses": dict(state.addresses), "sidecars": sidecars}
        scratch = self._file.with_name(f"{self._file.name}.new")
        try:
            scratch.write_text(json.dumps(written))
            os.replace(scratch, self._file)
        except OSError as error:
            raise EngineError(f"cannot write down how the enclave's traffic is shaped: {error.strerror}") from None


def _program() -> bytes:
    """Our files, as a tar."""
    package = Path(__file__).parents[2]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for pattern in FILES:
            for path in sorted(package.glob(pattern)):
                name = Path(PLACE[1:], package.name, path.relative_to(package))
                tar.add(path, str(name), filter=_plain)
    return archive.getvalue()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry
