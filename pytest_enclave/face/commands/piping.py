"""Between our own input and output and those of a command in a service."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

from pytest_enclave.engine.protocol import Conversation
from pytest_enclave.face.commands.pump import CHUNK, ENDING, ending_signals


def pipe(conversation: Conversation, source: int, sink: int) -> signal.Signals | None:
    """Have the command read what comes from the source, and write what it writes to the sink (descriptors).

    Until its output ends, or a signal comes, which is returned. Raises BrokenPipeError where nobody reads the sink.
    """
    with ending_signals() as signals:
        # It is to be told of what is typed there, and not to wait until it reads.
        os.set_blocking(conversation.input(), False)
        return _Pipe(conversation, source, sink, signals).run()


class _Pipe:
    def __init__(self, conversation: Conversation, source: int, sink: int, signals: int) -> None:
        self._conversation = conversation
        self._source = source
        self._sink = sink
        self._signals = signals
        self._waiting = b""
        self._ended = False

    def run(self) -> signal.Signals | None:
        output = self._conversation.fileno()
        while True:
            reading = [output, self._signals]
            # No more is read than was taken over there.
            if not self._ended and not self._waiting:
                reading.append(self._source)
            writing = [self._conversation.input()] if self._waiting else []
            readable, writable, _ = select.select(reading, writing, [])
            if self._signals in readable and (came := self._heard()) is not None:
                return came
            if output in readable and not self._pass_on(output):
                return None
            if self._source in readable:
                self._read()
            if writable:
                self._write()

    def _heard(self) -> signal.Signals | None:
        numbers = [number for number in os.read(self._signals, CHUNK) if number in ENDING]
        return signal.Signals(numbers[0]) if numbers else None

    def _pass_on(self, output: int) -> bool:
        """Whether there was anything more."""
        written = b""
        # It is reset where the command has ended before it has read all.
        with suppress(ConnectionError):
            written = os.read(output, CHUNK)
        left = memoryview(written)
        while left:
            left = left[os.write(self._sink, left) :]
        return bool(written)

    def _read(self) -> None:
        # A terminal that has gone gives an error.
        with suppress(OSError):
            self._waiting = os.read(self._source, CHUNK)
        if not self._waiting:
            self._end()

    def _write(self) -> None:
        try:
            taken = os.write(self._conversation.input(), self._waiting)
            self._waiting = self._waiting[taken:]
        except BlockingIOError:
            return
        except OSError:
            # It reads no more; it may write yet.
            self._waiting = b""
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._conversation.end_input()
