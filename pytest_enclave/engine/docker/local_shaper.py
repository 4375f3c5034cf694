"""One process of this machine that shapes the traffic of all services of an enclave, from their network namespaces.

It is made by the first who shapes the enclave, and ends with the process that the enclave is there for, however that
ends. All others reach it by a socket in the enclave's home.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.shape import NOTHING, Running, Shape, Surroundings
from pytest_enclave.engine.docker.shaper import SOCKET
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.errors import EngineError

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.engine.docker.shaper.serving import main
main()
"""

NEEDS = "Linux 5.3 with nf_tables and NFQUEUE (modules nf_tables, nfnetlink_queue, and nft_queue or xt_NFQUEUE)"


class _NotHere(EngineError):
    """The engine's containers are not on this machine, or not seen from here."""


class LocalShaper:
    """The process, whoever has started it."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._directory = around.notes.directory
        # Of an enclave without a home, which only this process uses.
        self._abstract = b""

    @property
    def is_on(self) -> bool:
        """Whether there may be one. Costs no call."""
        return bool(self._abstract) if self._directory is None else (self._directory / SOCKET).exists()

    def is_possible(self, addresses: Mapping[str, str], running: Running) -> bool:
        """Whether this is root, where the engine's containers are."""
        scheme, _, path = self._around.endpoint.partition("://")
        if os.geteuid() != 0 or scheme != "unix" or not _is_seen(path):
            return False
        services = [(name, container) for name, container in running().items() if name in addresses]
        try:
            self._located(services, addresses)
        except _NotHere:
            return False
        return True

    def shape(self, shape: Shape, addresses: Mapping[str, str], running: Running) -> None:
        """Have this and nothing else. Raises EngineError."""
        told = self._ask({"do": "tell"})
        if told is None:
            if not shape.connections:
                return
            self._begin()
            told = self._asked({"do": "tell"})
        # Whoever starts a service from here on finds the process.
        attached = told["attached"]
        new = [(name, it) for name, it in running().items() if name in addresses and attached.get(name) != it]
        services = self._located(new, addresses)
        self._asked(
            {"do": "shape", **shape.written(), "addresses": dict(addresses), "services": services, "elsewhere": []}
        )

    def shaped(self) -> Shape:
        """What there is; nothing where the process was killed. Raises EngineError."""
        told = self._ask({"do": "tell"})
        return Shape.read(told) if told else NOTHING

    def names(self, service: str) -> bool:
        """Whether something is between this service and others. Raises EngineError."""
        return self.shaped().names(service)

    def starting(self, name: str) -> None:
        """Nothing is to be done: the process sees how services end."""

    def started(self, name: str, address: str, container: str) -> None:
        """A service was started. Raises EngineError."""
        services = self._located([(name, container)], {name: address})
        self._ask({"do": "attach", "addresses": {name: address}, "services": services})

    def end(self) -> None:
        """End the process. Raises EngineError."""
        self._ask({"do": "end"})
        self._abstract = b""

    def _located(
        self, containers: Iterable[tuple[str, str]], addresses: Mapping[str, str]
    ) -> list[tuple[str, str, int]]:
        """Those that run, with their processes. Raises EngineError."""
        # What most enclaves never need.
        from pytest_enclave.engine.docker.shaper.attachment import is_at

        found = []
        for name, container in containers:
            pid = self._process(name, container)
            if pid and not is_at(pid, addresses[name]):
                if self._process(name, container) == pid:
                    raise _NotHere(
                        f'cannot shape the traffic of service "{name}": the engine says that its process is {pid}, and '
                        "there is none here",
                        remedy="run pytest where the engine's processes are seen: not in a container",
                    )
                continue
            if pid:
                found.append((name, container, pid))
        return found

    def _process(self, name: str, container: str) -> int:
        """The id of a container's process, 0 for none. Raises EngineError."""
        try:
            with translate(f'cannot inspect the container of service "{name}"'):
                return int(self._around.client.inspect_container(container)["State"]["Pid"])
        except Refused as refused:
            if refused.status != 404:
                raise
            return 0

    def _begin(self) -> None:
        """Start the process. Raises EngineError."""
        with ExitStack() as opened:
            listener = opened.enter_context(socket.socket(socket.AF_UNIX))
            directory = -1
            try:
                if self._directory is None:
                    listener.bind("")
                else:
                    self._directory.mkdir(mode=0o700, exist_ok=True)
                    directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                    opened.callback(os.close, directory)
                    # Of a process that was killed.
                    with suppress(FileNotFoundError):
                        os.unlink(SOCKET, dir_fd=directory)
                    # However long the directory's name is.
                    listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
                listener.listen(64)
                self._run(listener.fileno(), directory)
            except (OSError, subprocess.SubprocessError) as error:
                raise EngineError(f"cannot start the process that shapes the enclave's traffic: {error}") from None
            if self._directory is None:
                self._abstract = listener.getsockname()

    def _run(self, listener: int, directory: int) -> None:
        root = str(Path(__file__).parents[3])
        numbers = [str(each) for each in (listener, directory, self._around.holder)]
        # It goes on in the background. Signals from the terminal do not concern it.
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", PROGRAM, root, *numbers],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[each for each in (listener, directory) if each >= 0],
            cwd=os.sep,
            start_new_session=True,
            check=True,
        )

    def _asked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer. Raises EngineError, also where nobody answers."""
        if (answer := self._ask(request)) is None:
            raise EngineError("the process that shapes the enclave's traffic has ended", remedy=f"it needs {NEEDS}")
        return answer

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer, None where there is nobody to ask. Raises EngineError."""
        return _ask(self._directory or self._abstract, request) if self.is_on else None


def _is_seen(path: str) -> bool:
    """Whether who listens at a socket is among the processes that are seen here: one of elsewhere has no number."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError:
            return False
        # Three integers: process, user, group.
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, _, _ = struct.unpack("3i", credentials)
    return bool(process)


def end_shaper(home: str) -> None:
    """End the process of an enclave, if there is one."""
    with suppress(EngineError):
        if (directory := Notes(home).directory) is not None:
            _ask(directory, {"do": "end"})


def _ask(where: Path | bytes, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer of the process that listens there: in a directory, or at an abstract address."""
    from pytest_enclave.engine.docker.shaper.asking import PATIENCE, ask, connect

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        try:
            if isinstance(where, bytes):
                connection.connect(where)
            else:
                connect(connection, str(where))
            answer = ask(connection, request)
        except TimeoutError:
            raise EngineError("the process that shapes the enclave's traffic does not answer") from None
        except OSError:
            return None
    return checked(answer)


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer of a shaping process. Raises EngineError where it could not do what it was asked."""
    if "error" in answer:
        raise EngineError(f"cannot shape the enclave's traffic: {answer['error']}", remedy=f"it needs {NEEDS}")
    return answer
