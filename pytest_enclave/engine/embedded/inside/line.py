"""One direction between two services: which packets are lost, and how long others are held up."""

from __future__ import annotations

from math import cos, log, pi, sqrt
from random import Random
from typing import NamedTuple


class Terms(NamedTuple):
    """What is said of a direction: percent lost; a normal distribution of milliseconds; percent of correlation."""

    loss: float
    mean: float
    deviation: float
    correlation: float


class Line:
    """A direction, and where it is in its sequence of losses. It has one for packets to one service alone, and another
    for what goes to several: what systems say without being asked shifts nothing."""

    __slots__ = ("_delays", "_last", "_losses", "seed", "terms")

    def __init__(self, terms: Terms, seed: str) -> None:
        self.terms = terms
        self.seed = seed
        self._losses = Random(f"{seed} loss"), Random(f"{seed} loss of what goes to several")
        self._delays = Random(f"{seed} delay")
        self._last = self._normal()

    @property
    def is_blocked(self) -> bool:
        """Whether nothing passes."""
        return self.terms.loss >= 100

    def delay(self, to_several: bool = False) -> float | None:
        """Seconds that the next packet is held up; None: it is lost."""
        loss, mean, deviation, correlation = self.terms
        if loss and self._losses[to_several].random() * 100 < loss:
            return None
        if deviation:
            share = correlation / 100
            # The deviation stays as it was said, whatever the correlation.
            self._last = share * self._last + sqrt(1 - share * share) * self._normal()
            mean += deviation * self._last
        return max(0.0, mean / 1000)

    def _normal(self) -> float:
        return sqrt(-2 * log(1 - self._delays.random())) * cos(2 * pi * self._delays.random())
