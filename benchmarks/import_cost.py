"""What the plugin costs a test session that does not use it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from benchmarks import suites
from benchmarks.measurement import Row, Timing, interleaved, within

ROUNDS = 20

GOAL = 15.0
"""Milliseconds."""


def measure(rounds: int) -> Iterator[Row]:
    """The import alone, then whole sessions of one test with the plugin and without."""
    imported = Timing(tuple(_import() for _ in range(rounds)))
    yield Row("import pytest_enclave.plugin, after pytest", imported, goals=(within(imported, GOAL),))
    without = suites.plain(1)
    loaded = replace(without, plugins=(suites.PLUGIN,))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root:
        directory = Path(root)
        sessions = interleaved(
            {"with": lambda: loaded.run_in(directory), "without": lambda: without.run_in(directory)}, rounds
        )
    for title, seconds in (("wall time", attrgetter("wall")), ("processor time", attrgetter("processor"))):
        bare, full = (Timing(tuple(map(seconds, sessions[name]))) for name in ("without", "with"))
        yield Row(f"session of one test, no plugin, {title}", bare)
        yield Row(f"session of one test, plugin unused, {title}", full, full.ratio_to(bare), "without")
        more = full.beyond(bare)
        # Importing is work for a processor, and its time can be told apart from that of what else runs here.
        goals = (within(more, GOAL),) if title == "processor time" else ()
        yield Row(f"… the difference, round by round, {title}", more, goals=goals)


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
