"""A whole pytest session of one test that needs one service, from the command to the prompt."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import suites
from benchmarks.machine import wait_until_idle
from benchmarks.measurement import Row, Timing, interleaved
from benchmarks.services import SLEEPER
from benchmarks.suites import Session, Suite

ROUNDS = 7


def measure(rounds: int) -> Iterator[Row]:
    """The test passes at once: all else is pytest's start, the environment, and its removal."""
    contenders = {
        "pytest-enclave, embedded": suites.with_enclave(SLEEPER, 1, "embedded"),
        "pytest-enclave, Docker": suites.with_enclave(SLEEPER, 1),
        "testcontainers": suites.with_testcontainers(SLEEPER, 1, "session"),
        "plain pytest, no service": suites.plain(1),
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        runs = {
            title: _in_directory(suite, Path(root, str(number)))
            for number, (title, suite) in enumerate(contenders.items())
        }
        sessions = interleaved(runs, rounds, wait_until_idle)
    taken = {title: Timing(tuple(session.wall for session in each)) for title, each in sessions.items()}
    plain = taken["plain pytest, no service"]
    for title, timing in taken.items():
        yield Row(f"session of one test, {title}", timing, timing.ratio_to(plain), "plain pytest")


def _in_directory(suite: Suite, directory: Path) -> Callable[[], Session]:
    directory.mkdir()
    return lambda: suite.run_in(directory)
