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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.client import Client
from pytest_enclave.engine.embedded.inside.leftovers import Leftovers
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


@dataclass(slots=True)
class Enclosure:
    """A running enclave, as a client has it. `end` is where its end is told, None if another process made it."""

    name: str
    directory: str
    client: Client
    end: int | None
    files: Sequence[str] = ()
    error: str = ""

    @classmethod
    def join(cls, name: str, directory: str) -> Enclosure:
        """Take a lease on an enclave that another process, or this one, has made. Raises EngineError if it is gone."""
        try:
            connection = _connect(directory)
        except OSError as error:
            raise EngineError(f"there is no enclave {name} any more: {error.strerror or error}") from None
        enclosure = cls(name, directory, Client(connection, name), None)
        try:
            enclosure.client.wait_ready(READY)
        except BaseException:
            enclosure.client.close()
            raise
        return enclosure

    def leave(self) -> None:
        """Give up the lease. With the last lease, the enclave ends."""
        self.client.close()
        if self.end is not None:
            os.close(self.end)

    def finish(self, timeout: float) -> Sequence[Leak]:
        """Ask it to end, and wait until nothing is left of it (seconds); what is."""
        with suppress(EngineError):
            self.client.submit({"do": "close"})
        deadline = time.monotonic() + timeout
        try:
            told = self._ending(deadline)
        finally:
            self.leave()
        # A long one is for those who mend it, and was told in short before.
        self.error = (told or {}).get("error", "") if "\n" not in (told or {}).get("error", "") else ""
        if told is not None and "leaks" not in told:
            # The supervisor was killed, and with it its enclave.
            told["leaks"] = self._remove()
        if told is None:
            reason = f"its processes have not ended within {timeout:g} s"
            return [Leak("enclave", self.name, reason, f"fuser -k {self.directory}/socket")]
        return [Leak(**leak) for leak in told["leaks"]]

    def _remove(self) -> list[dict[str, str]]:
        """What the supervisor would do. The enclave's processes may still be ending."""
        leftovers = Leftovers(self.name, self.directory, self.files)
        patience = time.monotonic() + ABANDONED
        while True:
            leaks = leftovers.remove()
            if not any(map(os.path.lexists, self.files[-1:])) or time.monotonic() > patience:
                return leaks
            time.sleep(0.02)

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

    def open(self, plan: dict[str, Any], origin: Sequence[int] = ()) -> Enclosure:
        """Make an enclave; for a fork, in its origin's user and mount namespaces. Raises EngineError."""
        ours, theirs = socket.socketpair()
        end, told = os.pipe()
        try:
            with self._lock:
                message = {**plan, "client": os.getpid()}
                try:
                    self._started().send(message, [theirs.fileno(), told, *origin])
                except ConnectionError:
                    # The launcher was killed; another one will do as well.
                    self._stop()
                    self._started().send(message, [theirs.fileno(), told, *origin])
        except OSError as error:
            ours.close()
            os.close(end)
            raise EngineError(f"cannot start enclave {plan['name']}: {error}") from None
        finally:
            theirs.close()
            os.close(told)
        enclosure = Enclosure(plan["name"], plan["directory"], Client(ours, plan["name"]), end, plan["files"])
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
