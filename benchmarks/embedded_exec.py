"""A command in a service: on the embedded engine, and with the Docker SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing

from docker import APIClient

from benchmarks import by_enclave, by_engine, by_sdk
from benchmarks.measurement import Row, faster, timings
from benchmarks.services import SLEEPER
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.protocol import Site

ROUNDS = 40

COMMAND = ("sh", "-c", ":")

TIMES_FASTER = 5


def measure(rounds: int) -> Iterator[Row]:
    """The same command in the same image, to its end, with its exit code."""
    with ExitStack() as opened:
        engine = opened.enter_context(by_enclave.engine("embedded"))
        site = opened.enter_context(by_engine.site(engine, SLEEPER))
        by_engine.start(site, SLEEPER, ["service"])
        client: APIClient = opened.enter_context(closing(connect(find_engine(None, os.environ), os.environ)))
        containers = opened.enter_context(by_sdk.environment(client))
        container, _ = containers.start(SLEEPER)
        taken = timings(
            {"embedded": lambda: _execute(site), "SDK": lambda: containers.execute(container, COMMAND)}, rounds
        )
    ours, sdk = taken["embedded"], taken["SDK"]
    yield Row("exec sh -c :, embedded", ours, goals=(faster(ours, sdk, TIMES_FASTER, "SDK"),))
    yield Row("exec sh -c :, SDK", sdk, sdk.ratio_to(ours), "embedded")


def _execute(site: Site) -> None:
    if (result := site.exec("service", COMMAND, None)).code != 0:
        raise RuntimeError(result.output)
