"""One environment brought up and taken down again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measurement import Timing


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds until every service was up, and seconds until everything was gone."""

    up: float
    down: float


def ups(trials: Sequence[Trial]) -> Timing:
    """How long coming up took."""
    return Timing(tuple(trial.up for trial in trials))


def downs(trials: Sequence[Trial]) -> Timing:
    """How long removal took."""
    return Timing(tuple(trial.down for trial in trials))
