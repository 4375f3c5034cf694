"""Waiting for many descriptors at once, in the helper processes: calls back with what a descriptor is ready for."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress

# As in <sys/epoll.h>. `select` has them on Linux only.
READABLE = 0x01
WRITABLE = 0x04
FAILED = 0x08
HUNG_UP = 0x10

Callback = Callable[[int], None]


class Poll:
    """The descriptors that are watched. FAILED and HUNG_UP are told whether they were asked for or not."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callback, int]] = {}
        self._turns = 0

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """From the next turn on, call back with the events there are, for as long as there are any."""
        if descriptor in self._watched:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._watched[descriptor] = (callback, self._turns)

    def forget(self, descriptor: int) -> None:
        """Watch it no longer. To be called before it is closed."""
        if self._watched.pop(descriptor, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    def turn(self, seconds: float | None = None) -> None:
        """Wait until something is ready, but not longer than this, and call back once for each that is."""
        self._turns += 1
        for descriptor, events in self._epoll.poll(seconds):
            callback, since = self._watched.get(descriptor, (None, 0))
            # A number that an earlier callback has closed and opened anew is not what these events are about.
            if callback is not None and since < self._turns:
                callback(events)

    def close(self) -> None:
        """Watch nothing any longer."""
        self._epoll.close()
        self._watched.clear()
