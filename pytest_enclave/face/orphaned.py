"""An xdist worker whose controller was killed ends soon: nobody waits for what it does any more.

Left alone, it is interrupted after 5 s, and ends 10 s later.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

LOOK = 0.5
"""Seconds between two looks whether the controller lives."""

GRACE = 3.0
"""Seconds that the worker has to end in order."""


class Watch:
    """A thread that looks whether the controller `lives`, until the worker is over (`end`)."""

    def __init__(self, lives: Callable[[], bool]) -> None:
        self._lives = lives
        self._over = threading.Event()
        threading.Thread(target=self._run, name="enclave-controller", daemon=True).start()

    def end(self) -> None:
        """The worker has nothing left to remove."""
        self._over.set()

    def _seems_alive(self) -> bool:
        try:
            return self._lives()
        except OSError:
            # Too many open files, for example: it can be seen the next time.
            return True

    def _run(self) -> None:
        while self._seems_alive():
            if self._over.wait(LOOK):
                return
        # The session ends in order, as if it were told to.
        os.kill(os.getpid(), signal.SIGTERM)
        self._over.wait(GRACE)
        # What still stays is removed by those who look after killed processes.
        os._exit(1)
