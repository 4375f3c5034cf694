"""One more service in an environment that is there: on the embedded engine, by the Docker SDK, by testcontainers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import count

from docker import APIClient
from testcontainers.core.network import Network

from benchmarks import by_enclave, by_engine, by_sdk, by_testcontainers
from benchmarks.measurement import Row, faster, interleaved, stopwatch, within
from benchmarks.services import SLEEPER
from benchmarks.trial import Trial, downs, ups
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.protocol import Action, Site

ROUNDS = 15

PAUSE = 0.5
"""Seconds between contenders: the kernel removes network namespaces under a lock that makers of links wait for."""

TIMES_FASTER = 20

GOAL = 10.0
"""Milliseconds, on a quiet machine."""


def measure(rounds: int) -> Iterator[Row]:
    """Start, and removal; nobody opens a connection or an environment while the clock runs."""
    with ExitStack() as opened:
        engine = opened.enter_context(by_enclave.engine("embedded"))
        site = opened.enter_context(by_engine.site(engine, SLEEPER))
        client: APIClient = opened.enter_context(closing(connect(find_engine(None, os.environ), os.environ)))
        containers = opened.enter_context(by_sdk.environment(client))
        network = opened.enter_context(Network())
        numbers = count(1)
        trials = interleaved(
            {
                "embedded": lambda: _in_enclave(site, f"service-{next(numbers)}"),
                "SDK": lambda: _in_network(containers),
                "testcontainers": lambda: by_testcontainers.one_start(SLEEPER, network),
            },
            rounds,
            partial(time.sleep, PAUSE),
        )
    ours, sdk, peer = (ups(trials[name]) for name in ("embedded", "SDK", "testcontainers"))
    goals = (faster(ours, sdk, TIMES_FASTER, "SDK"), within(ours, GOAL))
    yield Row("1 × busybox: up, embedded", ours, goals=goals)
    yield Row("1 × busybox: up, SDK", sdk, sdk.ratio_to(ours), "embedded")
    yield Row("1 × busybox: up, testcontainers", peer, peer.ratio_to(ours), "embedded")
    ours, sdk, peer = (downs(trials[name]) for name in ("embedded", "SDK", "testcontainers"))
    yield Row("1 × busybox: down, embedded", ours)
    yield Row("1 × busybox: down, SDK", sdk, sdk.ratio_to(ours), "embedded")
    yield Row("1 × busybox: down, testcontainers", peer, peer.ratio_to(ours), "embedded")


def _in_enclave(site: Site, name: str) -> Trial:
    with stopwatch() as up:
        by_engine.start(site, SLEEPER, [name])
    with stopwatch() as down:
        site.act(name, Action.REMOVE)
    return Trial(up(), down())


def _in_network(containers: by_sdk.Environment) -> Trial:
    with stopwatch() as up:
        container, _ = containers.start(SLEEPER)
    with stopwatch() as down:
        containers.remove(container)
    return Trial(up(), down())
