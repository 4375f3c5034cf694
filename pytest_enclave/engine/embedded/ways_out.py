"""Enclaves whose services were to reach the outside and cannot: told as soon as that is known, each once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock

from pytest_enclave.engine.embedded.client import Client, Reply
from pytest_enclave.errors import EngineError, Problem

REMEDY = "mend that; or, if nothing outside is needed, run with `--enclave-egress=off`, which says no more of it"


class WaysOut:
    """What is known of the ways out of one engine's enclaves. Nobody waits for them. Safe with several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asked: list[tuple[str, Future[Reply]]] = []

    def ask(self, enclave: str, client: Client) -> None:
        """Have an enclave tell of its way out when that has been made."""
        with suppress(EngineError):
            asked = (enclave, client.submit({"do": "egress"})[1])
            with self._lock:
                self._asked.append(asked)

    def missing(self) -> Iterator[Problem]:
        """A warning for each enclave that is known by now to have none, unless it was told before."""
        with self._lock:
            known = [each for each in self._asked if each[1].done()]
            self._asked = [each for each in self._asked if each not in known]
        for enclave, future in known:
            # Those that have ended meanwhile say nothing.
            if future.exception() is None and (reason := _reason(future.result())):
                yield Problem(
                    f"services of {enclave} have no way out to other networks: {reason}",
                    remedy=REMEDY,
                    severity="warning",
                )


def _reason(reply: Reply) -> str:
    answer, _ = reply
    return "" if answer.get("by") else str(answer.get("error") or answer.get("reason") or "nobody says why")
