"""What becomes of the packets that travel in one direction: which are lost, and how long the others take.

It is chosen by the seed and the names of both ends, so it is the same each time, on every engine, whatever packets they
are. A packet has the same luck whatever the percentage: where more is lost, it is these packets and more. The standard
library alone, and of its random numbers only those that it promises to be the same in all versions.
"""

from __future__ import annotations

from math import cos, log, pi, sqrt
from random import Random
from typing import NamedTuple

LOST = -1.0
"""What is said of a packet that never arrives."""


class Figures(NamedTuple):
    """What a connection does: the loss and the correlation in percent, the delay's mean and deviation in ms."""

    loss: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    correlation: float = 0.0


class Fates:
    """The packets from a `sender` to a `receiver`, one after the other; a new object begins anew.

    Losses are one sequence for packets to the receiver alone, and another for what goes to several: what systems say
    without being asked shifts nothing.
    """

    __slots__ = ("_before", "_delays", "_losses", "ends", "figures", "seed")

    def __init__(self, seed: int, sender: str, receiver: str, figures: Figures) -> None:
        self.seed = seed
        self.ends = sender, receiver
        self.figures = figures
        name = f"{seed} {sender} {receiver}"
        self._losses = Random(f"{name} loss"), Random(f"{name} loss of what goes to several")
        self._delays = Random(f"{name} delay")
        self._before = self._normal()

    @property
    def is_blocked(self) -> bool:
        """Whether nothing passes."""
        return self.figures.loss >= 100

    def next(self, *, to_several: bool = False) -> float:
        """How many seconds the next packet is held up, or `LOST`."""
        loss, mean, deviation, correlation = self.figures
        if loss and self._losses[to_several].random() * 100 < loss:
            return LOST
        if deviation:
            share = min(max(correlation / 100, 0.0), 1.0)
            # What is left for chance keeps the deviation as wide as without correlation.
            self._before = share * self._before + sqrt(1 - share * share) * self._normal()
            mean += deviation * self._before
        return max(0.0, mean / 1000)

    def _normal(self) -> float:
        return sqrt(-2 * log(1 - self._delays.random())) * cos(2 * pi * self._delays.random())
