"""A second pytest run of 40 tests on eight services that the first run has left running.

The alternatives: a run that starts them again (testcontainers has no other), and pytest-docker told to leave them:
`up` then only looks. It needs the program docker-compose, and is left out without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import suites
from benchmarks.machine import wait_until_idle
from benchmarks.measurement import Row, Timing, interleaved, within
from benchmarks.services import SLEEPERS
from benchmarks.suites import Session, Suite

ROUNDS = 9

TESTS = 40

GOALS = {"embedded": 100, "docker": 250}
"""Milliseconds that the second run may take more than one whose tests need nothing."""

COMPOSE = "docker-compose"


def measure(rounds: int) -> Iterator[Row]:
    """The tests pass at once: all else is pytest's start, and finding the environment as it was left."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        plain = "tests that need nothing"
        contenders = {plain: suites.plain(TESTS)}
        for engine in GOALS:
            contenders[engine] = suites.kept(suites.with_enclave(SLEEPERS, TESTS, engine), Path(root, "state"))
        if shutil.which(COMPOSE):
            contenders["pytest-docker, left running"] = suites.with_pytest_docker(SLEEPERS, TESTS, stays=True)
        contenders["testcontainers, started again"] = suites.with_testcontainers(SLEEPERS, TESTS, "session")
        runs = {
            title: _in_directory(suite, Path(root, str(number)))
            for number, (title, suite) in enumerate(contenders.items())
        }
        try:
            first = {title: run().wall for title, run in runs.items()}
            sessions = interleaved(runs, rounds, wait_until_idle)
        finally:
            _clean(Path(root))
    taken = {title: Timing(tuple(session.wall for session in each)) for title, each in sessions.items()}
    for title, timing in taken.items():
        name = f"pytest-enclave, {title}" if title in GOALS else title
        what = f"second run, {name} (first: {first[title] * 1000:.0f} ms)"
        yield Row(what, timing, timing.ratio_to(taken[plain]), plain)
        if title != plain:
            more = timing.beyond(taken[plain])
            goals = (within(more, GOALS[title]),) if title in GOALS else ()
            yield Row(f"… beyond {plain}, {name}", more, goals=goals)


def _in_directory(suite: Suite, directory: Path) -> Callable[[], Session]:
    directory.mkdir()
    return lambda: suite.run_in(directory)


def _clean(root: Path) -> None:
    """Remove what stays."""
    command = [sys.executable, "-m", "pytest", "--enclave-clean", "-p", "no:cacheprovider"]
    state = {**os.environ, "XDG_STATE_HOME": str(root / "state")}
    subprocess.run(command, cwd=root, env=state, check=True, stdout=subprocess.DEVNULL)
    for file in root.glob("*/docker-compose.yml"):
        down = [COMPOSE, "-p", "enclave-benchmark", "down", "-v"]
        subprocess.run(down, cwd=file.parent, check=True, capture_output=True)
