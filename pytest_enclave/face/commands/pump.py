"""Between the user's terminal and one in a service: what is typed goes there, what is shown comes here."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pytest_enclave.engine.protocol import Terminal

CHUNK = 1 << 16

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""What ends it. The Ctrl-C of a terminal is none of them: it is typed, and meant for the service."""

END_OF_INPUT = b"\x04"
"""How a terminal is told that nothing more is typed, as by Ctrl-D."""

INSISTING = 0.2
"""Seconds after which it is told again: a program that sets its terminal up at that moment has not heard it."""


def pump(terminal: Terminal, source: int, sink: int) -> signal.Signals | None:
    """Type what comes from the source into the terminal, and write what it shows to the sink (descriptors).

    Until it ends, or a signal comes, which is returned. The user's own terminal is afterwards as it was before.
    """
    with ending_signals() as signals, _raw(source):
        _fit(terminal, sink)
        return _Pump(terminal, source, sink, signals).run()


class _Pump:
    def __init__(self, terminal: Terminal, source: int, sink: int, signals: int) -> None:
        self._terminal = terminal
        self._source = source
        self._sink = sink
        self._signals = signals
        self._typed = b""
        self._ended = False

    def run(self) -> signal.Signals | None:
        theirs = self._terminal.fileno()
        while True:
            reading = [theirs, self._signals]
            # No more is read than was taken over there.
            if not self._ended and not self._typed:
                reading.append(self._source)
            patience = INSISTING if self._ended else None
            readable, writable, _ = select.select(reading, [theirs] if self._typed else [], [], patience)
            if self._signals in readable and (came := self._heard()) is not None:
                return came
            if theirs in readable and not self._show(theirs):
                return None
            if self._source in readable:
                self._read()
            elif self._ended and not readable and not self._typed:
                self._typed = END_OF_INPUT
            if writable:
                self._type(theirs)

    def _heard(self) -> signal.Signals | None:
        for number in os.read(self._signals, CHUNK):
            if number in ENDING:
                return signal.Signals(number)
        _fit(self._terminal, self._sink)
        return None

    def _show(self, theirs: int) -> bool:
        """Whether there was anything more to show."""
        shown = b""
        # A pseudo terminal whose other end is closed gives an error.
        with suppress(OSError):
            shown = os.read(theirs, CHUNK)
        left = memoryview(shown)
        while left:
            left = left[os.write(self._sink, left) :]
        return bool(shown)

    def _read(self) -> None:
        # As above: the user's terminal may go.
        with suppress(OSError):
            self._typed = os.read(self._source, CHUNK)
        if not self._typed:
            self._ended = True
            self._typed = END_OF_INPUT

    def _type(self, theirs: int) -> None:
        # What nobody reads any more, the end follows, which is told as such.
        taken = len(self._typed)
        with suppress(OSError):
            taken = os.write(theirs, self._typed[:256])
        self._typed = self._typed[taken:]


def _fit(terminal: Terminal, sink: int) -> None:
    """Have the terminal as large as the user's; without one it stays as it is."""
    with suppress(OSError):
        rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(sink, termios.TIOCGWINSZ, bytes(8)))
        if rows and columns:
            terminal.resize(rows, columns)


@contextmanager
def _raw(source: int) -> Iterator[None]:
    """Every key is passed on as it is, Ctrl-C included."""
    if not os.isatty(source):
        yield
        return
    before = termios.tcgetattr(source)
    try:
        # What has been typed ahead is not lost.
        tty.setraw(source, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)


@contextmanager
def ending_signals() -> Iterator[int]:
    """A descriptor on which the numbers of signals arrive that matter: those that end it, and SIGWINCH."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGWINCH, *ENDING)}
    try:
        yield reader
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.close(reader)
        os.close(writer)
