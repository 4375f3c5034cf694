"""An HTTP GET from the test process: through the embedded engine's relay, and to a container."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial

from docker import APIClient

from benchmarks import by_enclave, by_engine, by_sdk
from benchmarks.measurement import Row, timings, within
from benchmarks.services import NGINX
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.plan.service import PortSpec

ROUNDS = 200

GOAL = 1.0
"""Milliseconds."""

PORT = 80

PATIENCE = 30.0
"""Seconds."""


def measure(rounds: int) -> Iterator[Row]:
    """A new connection for each request, to the same nginx."""
    with ExitStack() as opened:
        engine = opened.enter_context(by_enclave.engine("embedded"))
        site = opened.enter_context(by_engine.site(engine, NGINX))
        by_engine.start(site, NGINX, ["web"])
        relayed = site.dial("web", PortSpec(PORT))
        client: APIClient = opened.enter_context(closing(connect(find_engine(None, os.environ), os.environ)))
        containers = opened.enter_context(by_sdk.environment(client))
        container, address = containers.start(NGINX, published=True)
        ways = {
            "relay": (relayed.host, relayed.port),
            "address": (address, PORT),
            "published": ("127.0.0.1", containers.published(container, PORT)),
        }
        for way in ways.values():
            _await(*way)
        taken = timings({name: partial(_get, *way) for name, way in ways.items()}, rounds)
    relay, direct, published = (taken[name] for name in ways)
    yield Row("GET through the relay", relay, relay.ratio_to(direct), "container's address", (within(relay, GOAL),))
    yield Row("GET at a container's address", direct)
    yield Row("GET at a container's published port", published, published.ratio_to(direct), "container's address")


def _await(host: str, port: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            _get(host, port)
        except (OSError, http.client.HTTPException):
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _get(host: str, port: int) -> None:
    with closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}")
