"""A gate that work passes on its way to the engine, and that closing an enclave shuts: what is inside is waited for,
nothing more gets in, and so nothing can be created behind the back of the removal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_enclave.errors import EngineError


class Gate:
    """Open at first; once shut, it stays so."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._changed = threading.Condition()
        self._inside = 0
        self._shut = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside. Raises EngineError when the gate is shut."""
        with self._changed:
            self.check()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def check(self) -> None:
        """Raises EngineError when the gate is shut: for work that is inside, and has an occasion to stop."""
        if self._shut:
            raise EngineError(f"{self._what} is being closed")

    def shut(self) -> None:
        """Let nothing in any more."""
        with self._changed:
            self._shut = True

    def empty(self, timeout: float) -> bool:
        """Wait until nobody is inside; whether that is so (seconds)."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._inside, timeout)
