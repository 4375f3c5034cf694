"""Times, compared: what is compared runs turn by turn, so that a busy machine is busy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the same thing took, round by round, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the rounds were faster."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """The round that was disturbed least."""
        return min(self.seconds)

    def ratio_to(self, other: Timing) -> float:
        """How many times as long as the other: the median of what each round says."""
        return statistics.median(mine / its for mine, its in zip(self.seconds, other.seconds, strict=True))

    def beyond(self, other: Timing, share: int = 1) -> Timing:
        """What this took more than the other, round by round, in so many equal parts."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return Timing(tuple((mine - its) / share for mine, its in pairs))


@dataclass(frozen=True, slots=True)
class Goal:
    """A value that must not be above a limit, and how the limit reads."""

    text: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether it is not."""
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a benchmark's table. `ratio` compares with another row, which `compared_with` names."""

    what: str
    timing: Timing
    ratio: float | None = None
    compared_with: str = ""
    goals: tuple[Goal, ...] = ()


def within(timing: Timing, milliseconds: float) -> Goal:
    """The goal that the median is not above so many milliseconds."""
    return Goal(f"≤ {milliseconds:g} ms", timing.median, milliseconds / 1000)


def faster(mine: Timing, other: Timing, times: float, whom: str) -> Goal:
    """The goal to be so many times as fast as the other."""
    return Goal(f"≥ {times:g} × faster than {whom}", mine.ratio_to(other), 1 / times)


def interleaved(
    contenders: Mapping[str, Callable[[], Result]], rounds: int, before: Callable[[], object] = lambda: None
) -> Mapping[str, Sequence[Result]]:
    """What each contender returned in each round. Every round begins with another one.

    `before` is called before each: it may wait until what the one before has left to others is done.
    """
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            before()
            results[name].append(contenders[name]())
    return results


def timings(contenders: Mapping[str, Callable[[], object]], rounds: int) -> Mapping[str, Timing]:
    """How long each contender took in each round."""

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            with stopwatch() as elapsed:
                work()
            return elapsed()

        return run

    measured = interleaved({name: timed(work) for name, work in contenders.items()}, rounds)
    return {name: Timing(tuple(seconds)) for name, seconds in measured.items()}


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Call what it yields, after the block, for the seconds that the block took."""
    started = time.perf_counter()
    ended: list[float] = []
    yield lambda: ended[0] - started
    ended.append(time.perf_counter())
