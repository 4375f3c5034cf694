"""40 tests on eight services, with four xdist workers: one environment for all of them, or one for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import suites
from benchmarks.measurement import Row, Timing, interleaved
from benchmarks.services import SLEEPERS
from benchmarks.suites import Session, Suite

ROUNDS = 5

TESTS, WORKERS = 40, 4


def measure(rounds: int) -> Iterator[Row]:
    """Whole sessions: starting, the tests, which pass at once, and removing."""
    contenders = {
        "pytest-enclave, embedded": suites.with_enclave(SLEEPERS, TESTS, "embedded"),
        "pytest-enclave, Docker": suites.with_enclave(SLEEPERS, TESTS),
        "testcontainers": suites.with_testcontainers(SLEEPERS, TESTS, "session"),
        "tests that need nothing": suites.plain(TESTS),
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        runs = {
            title: _in_directory(_distributed(suite), Path(root, str(number)))
            for number, (title, suite) in enumerate(contenders.items())
        }
        sessions = interleaved(runs, rounds)
    taken = {title: Timing(tuple(session.wall for session in each)) for title, each in sessions.items()}
    for title, timing in taken.items():
        yield Row(f"{WORKERS} workers, {title}", timing, timing.ratio_to(taken["testcontainers"]), "testcontainers")


def _distributed(suite: Suite) -> Suite:
    return replace(suite, options=(*suite.options, f"-n{WORKERS}"), plugins=("xdist", *suite.plugins))


def _in_directory(suite: Suite, directory: Path) -> Callable[[], Session]:
    directory.mkdir()
    return lambda: suite.run_in(directory)
