"""The keeper of logs: stamps what services write with the time it was read at, and keeps the newest of it.

Messages that come in, and what is answered:

    {"do": "follow", "key": K}, with the read end of a service's stdout and stderr, and a directory that is its log
    {"do": "flush", "key": K}      →  {"event": "flushed", "key": K}, once what was written until now is in the log

A key is followed once: a further `follow` takes what the former pipe still holds, and closes it without a word.
A directory that has a log in it is continued.

A log is a row of segments, files named by rising numbers. A segment is a row of frames: the time (seconds since the
epoch, a double), a length (four bytes), both in network order, and that many bytes. When a segment is full, the next
one is begun, and the oldest is removed where there are too many: whoever has it open reads on undisturbed. Only the end
of the last segment changes.
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.polling import READABLE, Poll

FRAME = struct.Struct("!dI")

CHUNK = 1 << 16
"""What is read of a service at once, before the others have their turn: as much as its pipe holds."""

FLUSHED = 1 << 20
"""Bytes. What a flush takes at most of a service that goes on writing: no pipe holds more."""

SEGMENT = 1 << 22
"""Bytes, and at most one frame more."""

SEGMENTS = 16


def open_segments(directory: int | str) -> list[int]:
    """Descriptors of a log's segments, oldest first, for `log_lines.read_lines`. They are the caller's to close."""
    opened: list[int] = []
    while not opened and (numbers := _numbers(directory)):
        for number in numbers:
            with suppress(FileNotFoundError):  # removed by now, to make room for what is newer
                opened.append(_open(directory, number, os.O_RDONLY))
    return opened


class Log:
    """The log of a service, to write to. Where there is no room the oldest goes, and what still has none is lost."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._numbers = _numbers(directory)
        self._file: int | None = None
        self._size = 0
        self._at = 0.0

    def append(self, chunk: bytes) -> None:
        """Add what was read just now."""
        # Never earlier than what is there already: readers count on it.
        self._at = max(self._at, time.time())
        frame = FRAME.pack(self._at, len(chunk)) + chunk
        while not self._write(frame):
            if len(self._numbers) < 2:
                return
            self._remove_oldest()

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._directory)

    def _write(self, frame: bytes) -> bool:
        try:
            file = self._current()
            written = os.write(file, frame)
        except OSError:
            return False
        if written == len(frame):
            self._size += written
            return True
        with suppress(OSError):
            os.ftruncate(file, self._size)
        return False

    def _current(self) -> int:
        if self._file is None and self._numbers:
            self._file = _open(self._directory, self._numbers[-1], os.O_WRONLY | os.O_APPEND)
            self._size = os.fstat(self._file).st_size
        if self._file is not None and self._size < SEGMENT:
            return self._file
        number = self._numbers[-1] + 1 if self._numbers else 1
        begun = _open(self._directory, number, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        if self._file is not None:
            os.close(self._file)
        self._file, self._size = begun, 0
        self._numbers.append(number)
        while len(self._numbers) > SEGMENTS:
            self._remove_oldest()
        return begun

    def _remove_oldest(self) -> None:
        with suppress(OSError):
            os.unlink(str(self._numbers.pop(0)), dir_fd=self._directory)


class Keeper:
    """All services whose output is being read."""

    def __init__(self, control: Channel) -> None:
        self.poll = Poll()
        self._control = control
        self._followed: dict[str, tuple[int, Log]] = {}

    def obey(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Do as a message says. One that is not understood does nothing."""
        if message["do"] == "follow" and len(descriptors) == 2:
            self._follow(message["key"], *descriptors)
            return
        if message["do"] == "flush":
            self._flush(message["key"])
            self._control.send({"event": "flushed", "key": message["key"]})
        for descriptor in descriptors:
            os.close(descriptor)

    def close(self) -> None:
        """Take what is there, and read no more."""
        for key in list(self._followed):
            self._leave(key)
        self.poll.close()

    def _follow(self, key: str, pipe: int, directory: int) -> None:
        self._leave(key)
        os.set_blocking(pipe, False)
        self._followed[key] = (pipe, Log(directory))
        self.poll.watch(pipe, READABLE, lambda _: self._read_on(key))

    def _read_on(self, key: str) -> None:
        if self._read(key) == 0:
            self._close(key)

    def _flush(self, key: str) -> None:
        left = FLUSHED
        while key in self._followed and left > 0 and (taken := self._read(key)):
            left -= taken

    def _read(self, key: str) -> int | None:
        """How much has been read: nothing at the end, None where nothing is there for now."""
        pipe, log = self._followed[key]
        try:
            chunk = os.read(pipe, CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            chunk = b""
        if chunk:
            log.append(chunk)
        return len(chunk)

    def _leave(self, key: str) -> None:
        self._flush(key)
        if key in self._followed:
            self._close(key)

    def _close(self, key: str) -> None:
        pipe, log = self._followed.pop(key)
        self.poll.forget(pipe)
        os.close(pipe)
        log.close()


def serve(control: Channel) -> None:
    """Keep logs until the end of the control channel."""
    keeper = Keeper(control)

    def told(_: int) -> None:
        for message, descriptors in control.arrived():
            keeper.obey(message, descriptors)

    keeper.poll.watch(control.fileno(), READABLE, told)
    try:
        while True:
            keeper.poll.turn()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        keeper.close()


def _numbers(directory: int | str) -> list[int]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(int(name) for name in os.listdir(directory) if name.isdecimal())
    return []


def _open(directory: int | str, number: int, flags: int) -> int:
    flags |= os.O_CLOEXEC
    if isinstance(directory, int):
        return os.open(str(number), flags, 0o600, dir_fd=directory)
    return os.open(os.path.join(directory, str(number)), flags, 0o600)
