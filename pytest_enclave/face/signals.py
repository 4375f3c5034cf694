"""Signals: a session that is told to end ends in order, and so does one that is told twice."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

TERMINATING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that would end pytest without any teardown."""

PATIENCE = 2.0
"""Seconds after which a signal that has ended nothing is sent again."""


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end a session as Ctrl-C does.

    Not an Exception as `pytest.exit` raises it: whatever runs at that moment might take it for a failure of its own.
    """


class Signals:
    """What becomes of signals from the first enclave on. `code` is the exit code that a terminating one asks for."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.debugging = False
        self._before: dict[int, Any] | None = None

    def catch(self) -> None:
        """Make SIGTERM and SIGHUP end the session in order, unless somebody else has taken them."""
        if self._before is not None or threading.current_thread() is not threading.main_thread():
            return
        free = [number for number in TERMINATING if signal.getsignal(number) is signal.SIG_DFL]
        self._before = {number: signal.signal(number, self._leave) for number in free}

    def release(self) -> None:
        """Give the signals back."""
        for number, handler in (self._before or {}).items():
            signal.signal(number, handler)
        self._before = None

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.code = 128 + number
        reason = f"stopped by {signal.Signals(number).name}"
        if self.debugging:
            # A debugger's prompt would go on after a KeyboardInterrupt.
            pytest.exit(reason, self.code)
        raise Stopped(reason)

    @contextmanager
    def insisting(self) -> Iterator[None]:
        """See to it that a signal ends what goes on inside, which may be a long wait.

        CPython drops what a handler raises while an object is being finalized, as each answer of an engine is.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *TERMINATING)}
        before = {number: handler for number, handler in handlers.items() if callable(handler)}
        reminder = _Reminder()
        for number, handler in before.items():
            signal.signal(number, reminder.of(handler))
        try:
            yield
        finally:
            reminder.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)
        if reminder.number is not None:
            signal.raise_signal(reminder.number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back: an impatient second Ctrl-C must leave no half of an enclave. They act after."""
        if self._before is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        caught: list[int] = []
        numbers = (signal.SIGINT, *TERMINATING)
        before = {number: signal.signal(number, lambda got, _: caught.append(got)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if caught:
            last = signal.Signals(caught[-1])
            code = int(pytest.ExitCode.INTERRUPTED) if last is signal.SIGINT else 128 + last
            pytest.exit(f"stopped by {last.name}", code)


class _Reminder:
    """Sends the main thread the signal it got, `number`, again and again."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._done = threading.Event()

    def of(self, handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
        """A handler that does the same, and begins to remind."""

        def handle(number: int, frame: FrameType | None) -> Any:
            if self.number is None:
                # Not threading's: the handler may have interrupted one of its locks being held.
                _thread.start_new_thread(self._remind, (number,))
            self.number = number
            return handler(number, frame)

        return handle

    def cancel(self) -> None:
        """Remind no more."""
        self._done.set()

    def _remind(self, number: int) -> None:
        main = threading.main_thread().ident
        while main is not None and not self._done.wait(PATIENCE):
            signal.pthread_kill(main, number)
