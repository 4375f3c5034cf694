"""Real time, for engines whose services live in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pytest_enclave.errors import EnclaveError

Item = TypeVar("Item")
Result = TypeVar("Result")


class RealClock:
    """The machine's own clocks, and threads for what goes on at the same time."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def map(self, work: Callable[[Item], Result], items: Iterable[Item], limit: int) -> list[Result]:
        """The work done on every item, at most `limit` at a time; results in the items' order.

        All are tried; if any raised, the first one's exception (in the items' order) is raised at the end. An
        interrupt (Ctrl-C) does not wait: what has not begun is dropped, what has begun is left to end by itself.
        """
        pending = list(items)
        if len(pending) <= 1:
            return [work(item) for item in pending]
        # Most often there is one thing to do.
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(max(1, min(limit, len(pending))), thread_name_prefix="enclave")
        try:
            futures = [pool.submit(work, item) for item in pending]
            errors = [future.exception() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        for error in errors:
            if error is not None:
                raise error
        return [future.result() for future in futures]


def attempted(work: Callable[[Item], None], items: Sequence[Item], limit: int) -> list[EnclaveError | None]:
    """The work tried on every item, at most `limit` at a time: for each None, or the error that it met."""

    def attempt(item: Item) -> EnclaveError | None:
        try:
            work(item)
        except EnclaveError as error:
            return error
        return None

    return RealClock().map(attempt, items, limit)
