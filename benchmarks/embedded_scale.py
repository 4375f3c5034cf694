"""Fifty services, and the end of their enclave: on the embedded engine, and with the Docker SDK in threads."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

from benchmarks import by_enclave, by_engine, by_sdk
from benchmarks.measurement import Row, interleaved, stopwatch, within
from benchmarks.services import FIFTY
from benchmarks.trial import Trial, downs, ups
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.protocol import Engine

ROUNDS = 3

PAUSE = 5.0
"""Seconds between contenders."""

UP, DOWN = 600.0, 150.0
"""Milliseconds."""


def measure(rounds: int) -> Iterator[Row]:
    """The engine alone; a package through the whole pipeline, with its enclave; and the SDK."""
    with (
        by_enclave.engine("embedded") as engine,
        closing(connect(find_engine(None, os.environ), os.environ)) as client,
    ):
        trials = interleaved(
            {
                "engine": lambda: _engine(engine),
                "package": lambda: by_enclave.cold_start(engine, FIFTY),
                "SDK": lambda: by_sdk.cold_start(client, FIFTY),
            },
            rounds,
            partial(time.sleep, PAUSE),
        )
    title = f"{FIFTY.count} × {FIFTY.title}"
    for what, times, goal in (("up", ups, UP), ("down", downs, DOWN)):
        alone, package, sdk = (times(trials[name]) for name in ("engine", "package", "SDK"))
        yield Row(f"{title}: {what}, embedded, engine alone", alone, goals=(within(alone, goal),))
        yield Row(f"{title}: {what}, embedded, package and enclave", package, goals=(within(package, goal),))
        yield Row(f"{title}: {what}, SDK in threads", sdk, sdk.ratio_to(package), "package")


def _engine(engine: Engine) -> Trial:
    """In an enclave that is there already."""
    with by_engine.site(engine, FIFTY) as site:
        with stopwatch() as up:
            by_engine.start(site, FIFTY, FIFTY.names)
        with stopwatch() as down:
            leaks = site.close()
    if leaks:
        raise RuntimeError(f"not removed: {', '.join(leak.name for leak in leaks)}")
    return Trial(up(), down())
