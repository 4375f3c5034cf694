"""Eight services for one isolated test after another, as in a suite of them: where the engine had time to get ready.

That is, in network namespaces that an earlier test's services have left (`--enclave-no-cache`, `isolate=True`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

from docker import APIClient

from benchmarks import by_enclave, by_sdk, by_testcontainers
from benchmarks.measurement import Goal, Row, interleaved, stopwatch
from benchmarks.services import AT_ONCE, REDISES, SLEEPERS, Kind
from benchmarks.trial import Trial, downs, ups
from pytest_enclave.enclave.sharing import Enclaves
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.docker.engine import DockerEngine

ROUNDS = 7

OF_TESTCONTAINERS = 0.4

PATIENCE = 120.0
"""Seconds that the engine may take to get ready."""


def measure(rounds: int) -> Iterator[Row]:
    """Both kinds of services; every contender has its connection to the engine before the clock starts."""
    with closing(connect(find_engine(None, os.environ), os.environ)) as client:
        for kind in (SLEEPERS, REDISES):
            with closing(DockerEngine()) as engine, by_enclave.enclaves(engine) as session:
                session.expects_more = lambda _: True
                for _ in range(2):
                    next_test(engine, session, kind)
                yield from _compare(kind, engine, session, client, rounds)


def next_test(engine: DockerEngine, session: Enclaves, kind: Kind) -> Trial:
    """An isolated test: its services come up, it lasts until the engine is ready for the next, and they go."""
    with stopwatch() as up:
        enclave = by_enclave.obtain(session, kind.package)
    engine.settled(PATIENCE)
    with stopwatch() as down:
        enclave.close()
    session.release(enclave)
    engine.settled(PATIENCE)
    return Trial(up(), down())


def _compare(kind: Kind, engine: DockerEngine, session: Enclaves, client: APIClient, rounds: int) -> Iterator[Row]:
    trials = interleaved(
        {
            "prepared": lambda: next_test(engine, session, kind),
            "fresh": lambda: by_enclave.cold_start(engine, kind),
            "SDK": lambda: by_sdk.cold_start(client, kind),
            "testcontainers": lambda: by_testcontainers.cold_start(kind),
        },
        rounds,
    )
    title = f"{AT_ONCE} × {kind.title}"
    for what, times in (("up", ups), ("down", downs)):
        prepared, fresh, sdk, peer = (times(trials[name]) for name in ("prepared", "fresh", "SDK", "testcontainers"))
        ratio = prepared.ratio_to(peer)
        goals = (Goal(f"≤ {OF_TESTCONTAINERS:g} × testcontainers", ratio, OF_TESTCONTAINERS),) if what == "up" else ()
        yield Row(f"{title}: {what}, prepared", prepared, ratio, "testcontainers", goals)
        yield Row(f"{title}: {what}, unprepared", fresh, fresh.ratio_to(peer), "testcontainers")
        yield Row(f"{title}: {what}, SDK in threads", sdk, sdk.ratio_to(peer), "testcontainers")
        yield Row(f"{title}: {what}, testcontainers", peer)
