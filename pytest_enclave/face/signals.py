"""Signals: a session that is told to end ends in order, and so does one that is told twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

TERMINATING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that would end pytest without any teardown."""


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
