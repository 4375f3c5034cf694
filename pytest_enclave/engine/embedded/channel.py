"""Messages between the processes of an enclave: JSON objects with file descriptors, over a stream of a unix socket.

A message is its length (four bytes, network order), how many descriptors come with it (one byte), and the JSON text.
The descriptors travel with the first byte of the message they belong to, so they arrive in order and never late.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

HEADER = struct.Struct("!IB")

CHUNK = 1 << 16

MOST_DESCRIPTORS = 250
"""The kernel passes at most 253 at once."""

_NOT_INHERITED = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
"""Programs of services must not have what their enclave's processes have open."""


class Channel:
    """One end of a connection. Sending blocks; receiving blocks or not, as the socket does. Not for several threads.

    A message whose descriptors were lost, because the receiver has too many open, comes with none and has `lost` set.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message, and copies of the descriptors. Raises OSError where the other end is gone."""
        text = json.dumps(message).encode()
        data = memoryview(HEADER.pack(len(text), len(descriptors)) + text)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        sent = self._socket.sendmsg([data], rights)
        if sent < len(data):
            self._socket.sendall(data[sent:])

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next message with its descriptors, which are the caller's from now on; None at the end of the stream."""
        while (complete := self._next()) is None:
            if not self._fill():
                return None
        return complete

    def arrived(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """The messages that are complete after one read. Raises EOFError at the end of the stream."""
        if not self._fill():
            raise EOFError
        while (complete := self._next()) is not None:
            yield complete

    def hang_up(self) -> None:
        """End the connection, whoever else has a copy of this end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        """Let go of this end."""
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _fill(self) -> bool:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(CHUNK, socket.CMSG_SPACE(MOST_DESCRIPTORS * 4), _NOT_INHERITED)
        except ConnectionResetError:
            return False
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                for number in numbers:
                    self._descriptors.append(number)
        self._buffer += data
        return bool(data)

    def _next(self) -> tuple[dict[str, Any], list[int]] | None:
        if len(self._buffer) < HEADER.size:
            return None
        length, count = HEADER.unpack_from(self._buffer)
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        message = json.loads(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        descriptors = [self._descriptors.popleft() for _ in range(min(count, len(self._descriptors)))]
        if len(descriptors) < count:
            # This process may have no more open.
            for descriptor in descriptors:
                os.close(descriptor)
            return {**message, "lost": count}, []
        return message, descriptors
