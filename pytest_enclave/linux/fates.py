"""What becomes of the packets that travel in one direction: which are lost, and how long the others take.

It is chosen by the seed and the names of both ends, so it is the same each time, whatever packets they are. A packet
has the same luck whatever the percentage: where more is lost, it is these packets and more. The standard library alone.
"""

from __future__ import annotations

import random

LOST = -1.0
"""What is said of a packet that never arrives."""


class Fates:
    """The packets from a `sender` to a `receiver`, one after the other; a new object begins anew.

    `loss` and `correlation` in percent, the delay's `mean` and `deviation` in milliseconds (`plan/connections.py`).
    """

    def __init__(
        self,
        seed: int,
        sender: str,
        receiver: str,
        *,
        loss: float = 0.0,
        mean: float = 0.0,
        deviation: float = 0.0,
        correlation: float = 0.0,
    ) -> None:
        self._loss = loss / 100
        self._mean = mean / 1000
        self._deviation = deviation / 1000
        self._from_before = min(max(correlation / 100, 0.0), 1.0)
        # What is left for chance, so that the deviation is as wide as without correlation.
        self._by_chance = (1 - self._from_before**2) ** 0.5
        self._losses = random.Random(f"{seed} {sender} {receiver} loss")
        self._delays = random.Random(f"{seed} {sender} {receiver} delay")
        self._before: float | None = None

    def next(self) -> float:
        """How many seconds the next packet is held up, or `LOST`."""
        if self._loss and self._losses.random() < self._loss:
            return LOST
        if not self._deviation:
            return self._mean
        drawn = self._delays.gauss(0.0, 1.0)
        before = self._before
        self._before = drawn if before is None else self._from_before * before + self._by_chance * drawn
        return max(0.0, self._mean + self._deviation * self._before)
