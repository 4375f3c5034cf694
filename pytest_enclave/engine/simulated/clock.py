"""Virtual time: it passes only where something says that it does, so that a wait of an hour takes no time.

The work of a `map` is done one item after the other, yet each item sees the time of the lane that it would
have had on a real engine: the lane that is free first. A lane belongs to the thread that runs the map; other
threads go on seeing the time from before the map until it is done. Threads that let time pass beside each
other pass it one after the other.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

EPOCH = 946_684_800.0
"""The wall time at which every virtual clock starts: 2000-01-01T00:00:00Z, in seconds since the epoch."""


class _Lane(threading.local):
    """The time of the lane that this thread is in, None outside any map."""

    time: float | None = None


class VirtualClock:
    """A `Clock` that starts at 0.0 and stands still until it is advanced. Seconds.

    Plain floats, not rounded: whoever pauses for `deadline - now()` then reads exactly `deadline`.
    """

    def __init__(self) -> None:
        self._time = 0.0
        self._lane = _Lane()
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds since the clock was made, as this thread's lane has it."""
        return self._time if self._lane.time is None else self._lane.time

    def wall(self) -> float:
        """Seconds since the epoch: `EPOCH` and what has passed since."""
        return EPOCH + self.now()

    def advance(self, seconds: float) -> None:
        """Let that much time pass; none where it is negative."""
        with self._lock:
            self._stand_at(self.now() + max(0.0, seconds))

    def advance_to(self, moment: float) -> None:
        """Let time pass until that moment; none where it is over."""
        with self._lock:
            self._stand_at(max(self.now(), moment))

    def map(self, work: Callable[[Item], Result], items: Iterable[Item], limit: int) -> list[Result]:
        """The work done on every item, as if at most `limit` (at least 1) at a time; results in their order.

        Afterwards it is the time at which the last item was done. All are tried; if any raised, the first
        one's exception (in the items' order) is raised at the end.
        """
        outside = self._lane.time
        results: list[Result] = []
        failures: list[Exception] = []
        free = [self.now()] * max(1, limit)
        try:
            for item in items:
                self._lane.time = heapq.heappop(free)
                try:
                    results.append(work(item))
                except Exception as failure:
                    failures.append(failure)
                heapq.heappush(free, self.now())
        finally:
            self._lane.time = outside
        self.advance_to(max(free))
        if failures:
            raise failures[0]
        return results

    def _stand_at(self, moment: float) -> None:
        if self._lane.time is None:
            self._time = moment
        else:
            self._lane.time = moment
