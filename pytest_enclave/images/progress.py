"""How far a pull is, told now and then."""

from __future__ import annotations

import time
from threading import Lock

from pytest_enclave.plan.events import Emit, ImageProgress

EVERY = 0.1
"""Seconds between two tellings."""


class PullProgress:
    """The bytes of an image's layers that are there, of all that are to come. Safe to use from several threads."""

    def __init__(self, image: str, emit: Emit) -> None:
        self._image = image
        self._emit = emit
        self._lock = Lock()
        self._told = 0.0
        self._current = 0
        self._total = 0

    def expect(self, count: int) -> None:
        """So many more bytes are to come."""
        with self._lock:
            self._total += count

    def advance(self, count: int) -> None:
        """So many more bytes are there; fewer than none if a download begins anew."""
        with self._lock:
            self._current += count
            if self._total and time.monotonic() - self._told >= EVERY:
                self._told = time.monotonic()
                self._emit(ImageProgress(self._image, self._current, self._total))

    def done(self) -> None:
        """The image is there."""
        self._emit(ImageProgress(self._image, 0, 0, done=True))
