"""An event loop: descriptors that become readable or writable, timers, and children that end."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

Callback = Callable[[], None]


class Loop:
    """Calls back. For the main thread of a process that has no other threads, and that reaps all of its children."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Callback]] = []
        self._order = itertools.count()
        self._children: dict[int, Callable[[int], None]] = {}
        self._wakeup, signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.watch(self._wakeup, self.reap)
        self._running = True

    def watch(self, descriptor: int, callback: Callback, *, writable: bool = False) -> None:
        """Call back whenever the descriptor is readable (or writable), has an error or is hung up."""
        self._callbacks[descriptor] = callback
        self._poll.register(descriptor, select.EPOLLOUT if writable else select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """Watch it no longer. Before it is closed."""
        if self._callbacks.pop(descriptor, None) is not None:
            with suppress(OSError):
                self._poll.unregister(descriptor)

    def after(self, seconds: float, callback: Callback) -> None:
        """Call back once, when that time has passed."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))

    def when_ended(self, child: int, callback: Callable[[int], None]) -> None:
        """Call back with the wait status when this child has ended."""
        self._children[child] = callback

    def run(self) -> None:
        """Call back until told to stop."""
        while self._running:
            for descriptor, _ in self._poll.poll(self._patience()):
                # An earlier callback of this round may have put an end to it.
                if callback := self._callbacks.get(descriptor):
                    callback()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()

    def stop(self) -> None:
        """Let `run` return."""
        self._running = False

    def reap(self) -> None:
        """Call back for all children that have ended by now."""
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if child == 0:
                return
            # Others are orphans of commands, which nobody waits for.
            if callback := self._children.pop(child, None):
                callback(status)

    def _patience(self) -> float:
        return -1 if not self._timers else max(0.0, self._timers[0][0] - time.monotonic())
