"""A Postgres of one's own: as a copy of one that is warm, and from nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial

from docker import APIClient

from benchmarks import by_enclave, by_engine, by_sdk
from benchmarks.measurement import Row, interleaved, stopwatch, within
from benchmarks.postgres import wait_until_ready
from benchmarks.services import POSTGRES
from benchmarks.trial import Trial, downs, ups
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.protocol import Engine, Site
from pytest_enclave.plan.service import PortSpec

ROUNDS = 5

PAUSE = 1.0
"""Seconds between contenders."""

GOAL = 250.0
"""Milliseconds."""

NAME = "postgres"


def measure(rounds: int) -> Iterator[Row]:
    """Until the server answers queries; enclaves and networks are made while the clock runs, engines are there."""
    with ExitStack() as opened:
        embedded, docker = (opened.enter_context(by_enclave.engine(name)) for name in ("embedded", "docker"))
        client: APIClient = opened.enter_context(closing(connect(find_engine(None, os.environ), os.environ)))
        warm, warm_on_docker = (opened.enter_context(by_engine.site(each, POSTGRES)) for each in (embedded, docker))
        for site in (warm, warm_on_docker):
            _start(site)
            site.freeze()
            _await(site)
        trials = interleaved(
            {
                "fork": lambda: _fork(warm),
                "cold": lambda: _cold(embedded),
                "fork on Docker": lambda: _fork(warm_on_docker),
                "SDK": lambda: _cold_by_sdk(client),
            },
            rounds,
            partial(time.sleep, PAUSE),
        )
    for what, times in (("ready", ups), ("gone", downs)):
        fork, cold, other, sdk = (times(trials[name]) for name in ("fork", "cold", "fork on Docker", "SDK"))
        yield Row(f"{what}, fork, embedded", fork, goals=(within(fork, GOAL),) if what == "ready" else ())
        yield Row(f"{what}, from nothing, embedded", cold, cold.ratio_to(fork), "fork")
        yield Row(f"{what}, fork, Docker", other, other.ratio_to(fork), "fork")
        yield Row(f"{what}, from nothing, SDK", sdk, sdk.ratio_to(fork), "fork")


def _fork(warm: Site) -> Trial:
    with stopwatch() as up:
        site = warm.fork(by_engine.new_id())
        _await(site)
    with stopwatch() as down:
        site.close()
    return Trial(up(), down())


def _cold(engine: Engine) -> Trial:
    with stopwatch() as up:
        site = engine.open(by_engine.new_id())
        _start(site)
    with stopwatch() as down:
        site.close()
    return Trial(up(), down())


def _cold_by_sdk(client: APIClient) -> Trial:
    with stopwatch() as whole, by_sdk.environment(client) as containers, stopwatch() as up:
        _, address = containers.start(POSTGRES)
        wait_until_ready(address, _port().number)
    return Trial(up(), whole() - up())


def _start(site: Site) -> None:
    by_engine.start(site, POSTGRES, [NAME])
    _await(site)


def _await(site: Site) -> None:
    endpoint = site.dial(NAME, _port())
    wait_until_ready(endpoint.host, endpoint.port)


def _port() -> PortSpec:
    assert POSTGRES.port is not None
    return PortSpec(POSTGRES.port)
