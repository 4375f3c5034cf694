"""Eight services in a fresh environment: through this plugin, with the bare Docker SDK, and with testcontainers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

from docker import APIClient

from benchmarks import by_enclave, by_sdk, by_testcontainers
from benchmarks.measurement import Goal, Row, interleaved
from benchmarks.services import AT_ONCE, REDISES, SLEEPERS, Kind
from benchmarks.trial import downs, ups
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.protocol import Engine

ROUNDS = 7

ABOVE_SDK = 1.15
ABOVE_TESTCONTAINERS = 1.0


def measure(rounds: int) -> Iterator[Row]:
    """Both kinds of services; every contender has its connection to the engine before the clock starts."""
    with by_enclave.engine() as engine, closing(connect(find_engine(None, os.environ), os.environ)) as client:
        for kind in (SLEEPERS, REDISES):
            yield from _compare(kind, engine, client, rounds)


def _compare(kind: Kind, engine: Engine, client: APIClient, rounds: int) -> Iterator[Row]:
    trials = interleaved(
        {
            "enclave": lambda: by_enclave.cold_start(engine, kind),
            "SDK": lambda: by_sdk.cold_start(client, kind),
            "testcontainers": lambda: by_testcontainers.cold_start(kind),
        },
        rounds,
    )
    ours, sdk, peer = (ups(trials[name]) for name in ("enclave", "SDK", "testcontainers"))
    goals = (
        Goal(f"≤ {ABOVE_SDK:g} × SDK", ours.ratio_to(sdk), ABOVE_SDK),
        Goal("≤ testcontainers", ours.ratio_to(peer), ABOVE_TESTCONTAINERS),
    )
    title = f"{AT_ONCE} × {kind.title}"
    yield Row(f"{title}: up, pytest-enclave", ours, ours.ratio_to(sdk), "SDK", goals)
    yield Row(f"{title}: up, SDK in threads", sdk)
    yield Row(f"{title}: up, testcontainers", peer, peer.ratio_to(sdk), "SDK")
    ours, sdk, peer = (downs(trials[name]) for name in ("enclave", "SDK", "testcontainers"))
    yield Row(f"{title}: down, pytest-enclave", ours, ours.ratio_to(sdk), "SDK")
    yield Row(f"{title}: down, SDK in threads", sdk)
    yield Row(f"{title}: down, testcontainers", peer, peer.ratio_to(sdk), "SDK")
