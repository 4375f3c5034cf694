"""What one more test costs on an environment that is already there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import by_enclave, suites
from benchmarks.measurement import Row, Timing, interleaved, stopwatch, within
from benchmarks.services import SLEEPERS
from benchmarks.suites import Session, Suite

ROUNDS = 5

RUNS = 200
"""How often the unchanged package is run again in one enclave."""

FURTHER, FURTHER_FROM_SCRATCH = 400, 2
"""How many tests the longer suite has more than the shorter one."""

GOAL, GOAL_EMBEDDED = 5.0, 2.0
"""Milliseconds."""


def measure(rounds: int) -> Iterator[Row]:
    """The pipeline alone, then whole suites."""
    docker = _again("docker")
    yield Row("Enclave.execute again, docker", docker, goals=(within(docker, GOAL),))
    embedded = _again("embedded")
    yield Row("Enclave.execute again, embedded", embedded, goals=(within(embedded, GOAL_EMBEDDED),))
    yield Row("Enclave.execute again, simulated", _again("simulated"))
    yield from _suites(rounds)


def _again(engine: str) -> Timing:
    """Run the unchanged package in an enclave that has it."""
    seconds = []
    with by_enclave.engine(engine) as on, by_enclave.enclaves(on) as session:
        enclave = by_enclave.obtain(session, SLEEPERS.package)
        for _ in range(RUNS):
            with stopwatch() as elapsed:
                enclave.run()
            seconds.append(elapsed())
    return Timing(tuple(seconds))


def _suites(rounds: int) -> Iterator[Row]:
    """A suite of one test against one of many, wall time: the difference is what a further test costs."""
    many = 1 + FURTHER
    pairs = {
        "plain pytest": (suites.plain(1), suites.plain(many), FURTHER),
        "pytest-enclave, simulated": (
            suites.with_enclave(SLEEPERS, 1, "simulated"),
            suites.with_enclave(SLEEPERS, many, "simulated"),
            FURTHER,
        ),
        "pytest-enclave, embedded": (
            suites.with_enclave(SLEEPERS, 1, "embedded"),
            suites.with_enclave(SLEEPERS, many, "embedded"),
            FURTHER,
        ),
        "pytest-enclave, Docker": (suites.with_enclave(SLEEPERS, 1), suites.with_enclave(SLEEPERS, many), FURTHER),
        "testcontainers, session fixture": (
            suites.with_testcontainers(SLEEPERS, 1, "session"),
            suites.with_testcontainers(SLEEPERS, many, "session"),
            FURTHER,
        ),
        "testcontainers, function fixture": (
            suites.with_testcontainers(SLEEPERS, 1, "function"),
            suites.with_testcontainers(SLEEPERS, 1 + FURTHER_FROM_SCRATCH, "function"),
            FURTHER_FROM_SCRATCH,
        ),
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        runs: dict[str, Callable[[], Session]] = {}
        for number, (title, (short, long, _)) in enumerate(pairs.items()):
            runs[f"{title} short"] = _in_directory(short, Path(root, f"short-{number}"))
            runs[f"{title} long"] = _in_directory(long, Path(root, f"long-{number}"))
        sessions = interleaved(runs, rounds)
    taken = {name: Timing(tuple(session.wall for session in each)) for name, each in sessions.items()}
    for title, (_, _, further) in pairs.items():
        short_taken, long_taken = taken[f"{title} short"], taken[f"{title} long"]
        yield Row(f"suite of 1 test, {title}", short_taken)
        more = long_taken.beyond(short_taken, further)
        goals = (within(more, GOAL_EMBEDDED),) if title == "pytest-enclave, embedded" else ()
        yield Row(f"one further test, {title}", more, goals=goals)


def _in_directory(suite: Suite, directory: Path) -> Callable[[], Session]:
    directory.mkdir()
    return lambda: suite.run_in(directory)
