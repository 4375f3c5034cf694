"""Starting enclaves: the launcher process, and what it is told."""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.client import Client
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.errors import EngineError

ABANDONED = 2.0
"""Seconds after which an ended enclave whose directory is still there has nobody left who removes it."""

READY = 20.0
"""Seconds after which an enclave that is not ready is given up."""

PATIENCE = 5.0
"""Seconds that the launcher has to end by itself."""

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.engine.embedded.inside.launcher import main
main()
"""


class Enclosure(msgspec.Struct, eq=False):
    """A running enclave, as a client has it. `end` is where its end is told, None if another process made it.

    `home` is that of the enclave, "" if it has none.
    """

    name: str
    directory: str
    home: str
    client: Client
    end: int | None
    files: Sequence[str] = ()
    error: str = ""

    @classmethod
    def join(cls, name: str, directory: str, home: str, files: Sequence[str] = ()) -> Enclosure:
        """Take a lease on an enclave that another process, or this one, has made. Raises EngineError if it is gone."""
        try:
            connection = _connect(directory)
        except OSError as error:
            raise _gone(name, error.strerror or str(error)) from None
        enclosure = cls(name, directory, home, Client(connection, name), None, files)
        try:
            enclosure.client.wait_ready(READY)
        except BaseException as error:
            enclosure.client.close()
            if isinstance(error, EngineError):
                raise _gone(name, "it has just ended, or does not answer") from None
            raise
        return enclosure

    def hold(self, holder: int) -> None:
        """From now on the enclave is there for this process (0: for this one). Raises EngineError."""
        with ExitStack() as opened:
            answer = self.client.ask({"do": "tenure"}, _processes(self.name, holder, opened))
        if "error" in answer:
            raise EngineError(f"enclave {self.name} does not let itself be held: {answer['error']}")

    def leave(self) -> None:
        """Give up the lease."""
        self.client.close()
        if self.end is not None:
            os.close(self.end)
            self.end = None

    def finish(self, timeout: float) -> Sequence[Leak]:
        """Ask it to end, and wait until nothing is left of it (seconds); what is."""
        self._ask_to_end()
        deadline = time.monotonic() + timeout
        try:
            told = self._ending(deadline)
        finally:
            self.leave()
        # A long one is for those who mend it, and was told in short before.
        self.error = (told or {}).get("error", "") if "\n" not in (told or {}).get("error", "") else ""
        if told is not None and "leaks" not in told:
            # The supervisor was killed, and with it its enclave.
            told["leaks"] = remove_remains(self.name, self.directory, self.home, self.files)
        if told is None:
            return [_lasting(self.name, self.directory, timeout)]
        return [Leak(**leak) for leak in told["leaks"]]

    def _ask_to_end(self) -> None:
        try:
            self.client.submit({"do": "close"})
        except EngineError:
            # If only our connection has ended, the enclave is still there. What never was ready is not ours to end:
            # its name may be that of another one.
            if not self.client.was_ready:
                return
            with suppress(OSError, EngineError):
                connection = _connect(self.directory)
                self.client.close()
                self.client = Client(connection, self.name)
                self.client.submit({"do": "close"})

    def _ending(self, deadline: float) -> dict[str, Any] | None:
        """What the supervisor tells at the end, None if it does not come in time."""
        if self.end is not None:
            told = _read_to_end(self.end, deadline)
            return None if told is None else json.loads(told or b"{}")
        # Its directory is the last that goes.
        patience = min(deadline, time.monotonic() + ABANDONED)
        while os.path.lexists(self.directory):
            if time.monotonic() > patience and self.client.ended:
                return {}
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)
        return {"leaks": []}


class Launcher:
    """The process that enclaves are forked from; started when first needed, or before. Safe with several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Channel | None = None

    def prepare(self) -> None:
        """Start the process, and do not wait for it. What goes wrong is for `open` to tell."""
        with suppress(OSError), self._lock:
            self._started()

    def open(self, plan: dict[str, Any], holder: int = 0, origin: Sequence[int] = ()) -> Enclosure:
        """Make an enclave that is there for a process (0: for this one). Raises EngineError.

        A fork is made in its origin's user and mount namespaces.
        """
        ours, theirs = socket.socketpair()
        end, told = os.pipe()
        try:
            with self._lock, ExitStack() as opened:
                passed = [theirs.fileno(), told, *_processes(plan["name"], holder, opened), *origin]
                try:
                    self._started().send(plan, passed)
                except ConnectionError:
                    # The launcher was killed; another one will do as well.
                    self._stop()
                    self._started().send(plan, passed)
        except (OSError, EngineError) as error:
            ours.close()
            os.close(end)
            raise EngineError(f"cannot start enclave {plan['name']}: {error}") from None
        finally:
            theirs.close()
            os.close(told)
        client = Client(ours, plan["name"])
        enclosure = Enclosure(plan["name"], plan["directory"], plan["home"], client, end, plan["files"])
        try:
            enclosure.client.wait_ready(READY)
        except BaseException as error:
            enclosure.finish(READY)
            if isinstance(error, EngineError) and enclosure.error:
                raise EngineError(f"cannot make enclave {plan['name']}: {enclosure.error}") from None
            raise
        return enclosure

    def close(self) -> None:
        """End the process. Enclaves are not touched."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        control, self._control = self._control, None
        process, self._process = self._process, None
        if control is not None:
            control.hang_up()
        if process is not None:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _started(self) -> Channel:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        ours, theirs = socket.socketpair()
        with theirs:
            root = str(Path(__file__).parents[3])
            command = [sys.executable, "-I", "-S", "-c", PROGRAM, root, str(theirs.fileno())]
            # Nothing of the environment is theirs to know; nor do signals from the terminal concern them.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control = Channel(ours)
        return self._control


def remove_enclave(name: str, directory: str, home: str, files: Sequence[str]) -> Sequence[Leak]:
    """End an enclave, or remove what is left of it; what could not be removed.

    One that is just being made is waited for: nothing can be said to it before.
    """
    # What was kept is seldom removed by the session that uses it.
    from pytest_enclave.engine.embedded.inside.leftovers import is_in_use

    deadline = time.monotonic() + READY
    while True:
        with suppress(EngineError):
            return Enclosure.join(name, directory, home, files).finish(READY)
        if not is_in_use(directory):
            break
        if time.monotonic() > deadline:
            return [_lasting(name, directory, READY)]
        time.sleep(0.005)
    return [Leak(**leak) for leak in remove_remains(name, directory, home, files)]


def remove_remains(name: str, directory: str, home: str, files: Sequence[str]) -> list[dict[str, str]]:
    """Remove what a supervisor has left that was killed; what could not be, each as kind, name, reason, command.

    The enclave's processes may still be ending. `files` are where they would be on disk, if it has not told.
    """
    from pytest_enclave.engine.embedded.inside.leftovers import Leftovers, is_in_use

    leftovers = Leftovers.recorded(name, directory, files, home)
    patience = time.monotonic() + ABANDONED
    while is_in_use(directory) and time.monotonic() < patience:
        time.sleep(0.005)
    while True:
        leaks = leftovers.remove()
        if not any(map(os.path.lexists, leftovers.files[-1:])) or time.monotonic() > patience:
            return leaks
        time.sleep(0.02)


def _processes(enclave: str, holder: int, opened: ExitStack) -> list[int]:
    """Descriptors of this process, and of the holder. Raises EngineError if that has ended."""
    found = []
    for process in (os.getpid(), holder or os.getpid()):
        try:
            found.append(os.pidfd_open(process))
        except ProcessLookupError:
            raise EngineError(f"process {process}, which enclave {enclave} was to be there for, has ended") from None
        opened.callback(os.close, found[-1])
    return found


def _lasting(name: str, directory: str, timeout: float) -> Leak:
    reason = f"its processes have not ended within {timeout:g} s"
    return Leak("enclave", name, reason, f"fuser -k {directory}/socket")


def _gone(name: str, reason: str) -> EngineError:
    return EngineError(f"there is no enclave {name} any more: {reason}")


def _connect(directory: str) -> socket.socket:
    """A connection to an enclave of this user. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The path of a socket may have 107 bytes only.
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{place}/socket")
        finally:
            os.close(place)
        _, owner, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if owner != os.geteuid():
            raise PermissionError(errno.EPERM, "what answers there is another user's", directory)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_to_end(descriptor: int, deadline: float) -> bytes | None:
    """All that is written there until its end; None if that does not come in time."""
    chunks: list[bytes] = []
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if not (chunk := os.read(descriptor, 1 << 16)):
            return b"".join(chunks)
        chunks.append(chunk)
    return None
