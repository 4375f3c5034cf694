"""Environments as this plugin makes them: a package, through the whole pipeline, into a fresh enclave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measurement import stopwatch
from benchmarks.services import AT_ONCE, Kind
from benchmarks.trial import Trial
from pytest_enclave.enclave.demand import Demand
from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.enclave.sharing import Enclaves
from pytest_enclave.engine.protocol import Engine
from pytest_enclave.engine.select import EngineChoice, select
from pytest_enclave.golang.jq import JqProcess
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Interpretations, Request
from pytest_enclave.run.pipeline import Options, Tools

NOBODY = Observers(lambda _, __: None, lambda _, __: None, lambda _, __: None, lambda _: None)


@contextmanager
def engine(name: str = "docker") -> Iterator[Engine]:
    """An engine that is connected. Raises EngineUnavailable."""
    selected = select(EngineChoice(name, environ=dict(os.environ)))
    selected.capacity()
    try:
        yield selected
    finally:
        selected.close()


@contextmanager
def enclaves(on: Engine) -> Iterator[Enclaves]:
    """The enclaves of one session, which remembers nothing of any before it."""
    jq = JqProcess()
    opened = Enclaves(on, Tools(Registry(), Interpretations(), jq.extract), Options(AT_ONCE), NOBODY)
    try:
        yield opened
    finally:
        leaks = opened.close()
        jq.close()
    if leaks:
        raise RuntimeError(f"not removed: {', '.join(leak.name for leak in leaks)}")


def obtain(session: Enclaves, package: str) -> Enclave:
    """An enclave of its own for the text of a package."""
    return session.obtain(Demand(Request.of(Source(package)), isolate=True), "a benchmark", lambda _: None)


def cold_start(on: Engine, kind: Kind) -> Trial:
    """All services up in a fresh enclave, and everything removed again."""
    with stopwatch() as whole, enclaves(on) as session, stopwatch() as up:
        obtain(session, kind.package)
    return Trial(up(), whole() - up())
