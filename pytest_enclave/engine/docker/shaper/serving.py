"""What the shaping process does: it listens for what is asked of it, and lets packets go on when their time has come.

A connection brings one request, a JSON object up to the end of the stream, and gets one answer:

* `shape`: have these connections (`ways`: sender, receiver and four figures each) by this `seed`; `addresses` are all
  addresses by name, `services` those that run (name, container, process), `elsewhere` those that other shapers are for
* `attach`: a service runs, and is to be shaped as well
* `tell`: the connections, and the container of each service that is shaped
* `end`: undo everything, and end

It ends by itself as soon as the process does that it is there for.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import struct
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.shaper import SOCKET
from pytest_enclave.engine.docker.shaper.attachment import Attachment, Held
from pytest_enclave.engine.docker.shaper.traffic import Traffic
from pytest_enclave.linux.fates import Figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from pytest_enclave.engine.docker.shaper.traffic import Ends


PATIENCE = 1.0
"""Seconds that whoever asks may take to do so: packets wait meanwhile."""

LONGEST = 3600.0
"""Seconds that it waits at once: the kernel takes no more than some weeks."""

NICE = -10
"""What it has of the processor where it may not be run in real time."""

CHUNK = 1 << 16


class Shaper:
    """Serves requests on a listening socket until it is to end; `holder` is a pidfd, -1 for none.

    The socket is in a `directory`, -1 for none.
    """

    def __init__(self, listener: socket.socket, holder: int, directory: int) -> None:
        self._directory = directory
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._answer_next)
        if holder >= 0:
            self._selector.register(holder, selectors.EVENT_READ, self._end)
        self._traffic = Traffic()
        self._attached: dict[str, Attachment] = {}
        self._addresses: dict[str, str] = {}
        self._elsewhere: frozenset[str] = frozenset()
        self._shaped_there: frozenset[bytes] = frozenset()
        self._seed = 0
        self._over = False

    def serve(self) -> None:
        """Serve until the end, and leave no rule."""
        while not self._over:
            due = self._traffic.release(time.monotonic())
            patience = None if due is None else min(LONGEST, max(0.0, due - time.monotonic()))
            for key, _ in self._selector.select(patience):
                key.data()
        self._undo()

    def _undo(self) -> None:
        self._traffic.shape({}, 0, {})
        for name in list(self._attached):
            self._detach(name)

    def _end(self) -> None:
        self._over = True

    def _answer_next(self) -> None:
        connection, _ = self._listener.accept()
        # Who has gone, or says nothing, gets no answer.
        with connection, suppress(OSError, ValueError):
            connection.settimeout(PATIENCE)
            if _user_of(connection) in (0, os.geteuid()):
                request = json.loads(_received(connection))
                connection.sendall(json.dumps(self._answer(request)).encode())

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            if request["do"] == "shape":
                self._shape(request)
            elif request["do"] == "attach":
                self._addresses.update(request["addresses"])
                self._attach(request["services"])
            elif request["do"] == "end":
                # Nothing is left when the answer is there.
                self._end()
                self._undo()
        except OSError as error:
            return {"error": ": ".join(str(each) for each in (error.filename, error.strerror) if each)}
        return {
            "seed": self._seed,
            "ways": [[*ends, *way.figures] for ends, way in self._traffic.ways.items()],
            "attached": {name: attachment.container for name, attachment in self._attached.items()},
        }

    def _shape(self, request: dict[str, Any]) -> None:
        """Raises OSError, and changes nothing then but where it is attached."""
        ways = {(way[0], way[1]): Figures(*way[2:]) for way in request["ways"]}
        before = self._elsewhere
        self._addresses.update(request["addresses"])
        self._elsewhere = frozenset(request["elsewhere"])
        try:
            self._attach(request["services"])
            # Packets that the new rules hold are not looked at before the ways are there.
            self._write(ways)
        except OSError:
            self._elsewhere = before
            with suppress(OSError):
                self._write(self._figures())
            raise
        self._seed = request["seed"]
        self._traffic.shape(ways, self._seed, self._packed(name for ends in ways for name in ends))

    def _attach(self, services: Sequence[tuple[str, str, int]]) -> None:
        """Be in the network namespaces of these services. Raises OSError."""
        for name, container, pid in services:
            if (before := self._attached.get(name)) is not None:
                if (before.container, before.pid) == (container, pid):
                    continue
                self._detach(name)
            # One that has ended in the meantime is none.
            with suppress(ProcessLookupError):
                attachment = Attachment(container, self._addresses[name], pid)
                self._attached[name] = attachment
                self._selector.register(attachment.queue, selectors.EVENT_READ, partial(self._take, name, attachment))
                if attachment.ending >= 0:
                    self._selector.register(
                        attachment.ending, selectors.EVENT_READ, partial(self._lose, name, attachment)
                    )
        self._write(self._figures())

    def _take(self, name: str, attachment: Attachment) -> None:
        # What came before it may have detached this one.
        if self._attached.get(name) is attachment:
            self._traffic.take(attachment, time.monotonic(), self._shaped_there)

    def _lose(self, name: str, attachment: Attachment) -> None:
        """A service has ended: what goes to it is held where it leaves from now on."""
        if self._attached.get(name) is not attachment:
            return
        self._detach(name)
        # What cannot be written now is with the next request.
        with suppress(OSError):
            self._write(self._figures())
        if not self._attached and self._directory >= 0:
            try:
                os.stat(SOCKET, dir_fd=self._directory)
            except OSError:
                # The enclave has gone with all of its services.
                self._end()

    def _detach(self, name: str) -> None:
        attachment = self._attached.pop(name)
        self._traffic.forget(attachment)
        self._selector.unregister(attachment.queue)
        if attachment.ending >= 0:
            self._selector.unregister(attachment.ending)
        attachment.close()

    def _write(self, ways: Mapping[Ends, Figures]) -> None:
        """Hold up what travels on these ways, where it arrives if that is possible. Raises OSError."""
        there = self._elsewhere | self._attached.keys()
        held = {name: Held.nothing() for name in self._attached}
        for (sender, receiver), figures in ways.items():
            if receiver in held:
                if _is_up_to_kernel(figures) and self._attached[receiver].can_delay():
                    held[receiver].delays[self._addresses[sender]] = figures.mean / 1000
                else:
                    held[receiver].sources.add(self._addresses[sender])
            if sender in held and receiver not in there:
                held[sender].destinations.add(self._addresses[receiver])
        # Where something is held up first: it must not pass in between.
        for name, attachment in self._attached.items():
            attachment.hold(held[name].joined(attachment.held or Held.nothing()))
        for name, attachment in self._attached.items():
            attachment.hold(held[name])
        for (sender, receiver), figures in ways.items():
            if figures.loss >= 100 and receiver in held:
                self._attached[receiver].lose(self._addresses[sender])
        self._shaped_there = frozenset(self._packed(there & self._addresses.keys()).values())
        self._traffic.let_go(there)

    def _figures(self) -> dict[Ends, Figures]:
        return {ends: way.figures for ends, way in self._traffic.ways.items()}

    def _packed(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: socket.inet_aton(self._addresses[name]) for name in names}


def _is_up_to_kernel(figures: Figures) -> bool:
    """Whether it may hold them up: where something is left to chance, that is ours on all kernels."""
    return figures.mean > 0 and not figures.loss and not figures.deviation


def main() -> None:
    """Serve in the background. Arguments: the listening socket, its directory (-1 for none), the holder's process."""
    listener, directory, holder = (int(each) for each in sys.argv[-3:])
    # Whoever started it need not wait for the end.
    if os.fork():
        os._exit(0)
    _hurry()
    serve(socket.socket(fileno=listener), os.pidfd_open(holder), directory)


def main_inside() -> None:
    """Serve as the process of a container. Argument: the directory of the socket."""
    directory = os.open(sys.argv[-1], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX)
    # The container may have been started before.
    with suppress(FileNotFoundError):
        os.unlink(SOCKET, dir_fd=directory)
    listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
    listener.listen(64)
    _hurry()
    serve(listener, -1, directory)


def serve(listener: socket.socket, holder: int, directory: int) -> None:
    """Serve until the end; then nobody finds the socket any more."""
    # Each service takes a few descriptors.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        Shaper(listener, holder, directory).serve()
    finally:
        if directory >= 0:
            with suppress(OSError):
                os.unlink(SOCKET, dir_fd=directory)
        listener.close()


def _hurry() -> None:
    """Packets are not to wait for what else the machine does: be run as soon as there is something to do."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        with suppress(OSError):
            os.nice(NICE)


def _received(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(CHUNK):
        parts.append(part)
    return b"".join(parts)


def _user_of(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iII", credentials)[1])
