"""The engines that enclaves are on, each connected to when it is first needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_enclave.engine.select import NAMES, EngineChoice, probe, select
from pytest_enclave.errors import EngineUnavailable
from pytest_enclave.ledger.entry import Entry

if TYPE_CHECKING:
    from pytest_enclave.engine.protocol import Engine


class Engines:
    """By name and endpoint. Not for several threads, but engines are."""

    def __init__(self, config: pytest.Config, docker_host: str | None) -> None:
        self._config = config
        self._docker_host = docker_host
        self._found: dict[tuple[str, str], Engine] = {}

    def of(self, entry: Entry) -> Engine:
        """The engine that an enclave is on. Raises EngineUnavailable."""
        if not entry.engine:
            raise EngineUnavailable(
                f"it is not known which engine enclave {entry.name} is on: its entry in the ledger {entry.damage}",
                remedy=f"pytest --enclave-clean={entry.name} removes what there is of it on the engines that are here",
            )
        place = entry.engine, entry.endpoint
        if place not in self._found:
            self._found[place] = self._find(*place)
        return self._found[place]

    def here(self) -> Sequence[Engine]:
        """All engines that can be had, for what might be on any of them."""
        # Besides, the one that a `conftest.py` may have.
        for name in (*NAMES, ""):
            place = name, ""
            if name == "auto":
                continue
            with suppress(EngineUnavailable):
                if place not in self._found:
                    self._found[place] = self._find(*place)
        return list(self._found.values())

    def close(self) -> None:
        """Let go of all."""
        for engine in self._found.values():
            engine.close()
        self._found.clear()

    def _find(self, name: str, endpoint: str) -> Engine:
        if name not in NAMES:
            engine: Engine | None = self._config.hook.pytest_enclave_engine(config=self._config)
            if engine is None or name not in ("", engine.name):
                raise EngineUnavailable(
                    f"there is no engine `{name}` here", remedy="run pytest where the `conftest.py` is that has it"
                )
            return engine
        told = self._docker_host if name != "docker" or not endpoint or self._leads_to(endpoint) else endpoint
        engine = select(EngineChoice(name, told, environ=dict(os.environ)))
        engine.probe()
        return engine

    def _leads_to(self, endpoint: str) -> bool:
        """Whether option, environment or context lead there: they may tell more of it, such as certificates."""
        with suppress(EngineUnavailable):
            found = probe(EngineChoice("docker", self._docker_host, environ=dict(os.environ)))
            return found.probe.endpoint == endpoint
        return False
