"""What the plugin costs a test session that does not use it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import suites
from benchmarks.measurement import Row, Timing, timings, within

ROUNDS = 20

GOAL = 15.0
"""Milliseconds."""


def measure(rounds: int) -> Iterator[Row]:
    """The import alone, then whole sessions of one test with the plugin and without."""
    imported = Timing(tuple(_import() for _ in range(rounds)))
    yield Row("import pytest_enclave.plugin, after pytest", imported, goals=(within(imported, GOAL),))
    suite = suites.plain(1)
    without = replace(suite, options=("-p", "no:enclave"))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        directory = Path(root)
        taken = timings({"with": lambda: suite.run_in(directory), "without": lambda: without.run_in(directory)}, rounds)
    more = taken["with"].beyond(taken["without"])
    yield Row("session of one test, -p no:enclave", taken["without"])
    yield Row("session of one test, plugin unused", taken["with"], taken["with"].ratio_to(taken["without"]), "without")
    yield Row("… the difference, round by round", more, goals=(within(more, GOAL),))


def _import() -> float:
    """Seconds for the plugin's module and all that it imports and pytest has not imported already."""
    code = "import pytest, pytest_enclave.plugin"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    lines = (line.split("|") for line in done.stderr.splitlines())
    # A module that is nested in another import is indented, and so is the whole of what we ask for: it is not.
    microseconds = sum(int(fields[1]) for fields in lines if len(fields) == 3 and fields[2].rstrip() in _OWN)
    return microseconds / 1e6


_OWN = (" pytest_enclave", " pytest_enclave.plugin")
"""Our modules as `-X importtime` writes them at the outermost level: one space, no indentation."""
