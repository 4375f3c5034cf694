"""What becomes of it when an enclave's first process answers with an error, whatever it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.client import Client
from pytest_enclave.engine.embedded.launching import Enclosure
from pytest_enclave.engine.embedded.site import EmbeddedSite
from pytest_enclave.engine.http import HttpClient
from pytest_enclave.engine.protocol import Action, Address, NotReached, ServiceSpec
from pytest_enclave.errors import EngineError, ServiceError
from pytest_enclave.plan.service import PortSpec

FULL = "Too many open files in the enclave"
WEB = PortSpec(80)


class Init:
    """The other end of a client's connection: it knows of a running service `a`, and can do nothing."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.kind: str | None = "system"
        self.asked: list[str] = []
        self._channel = Channel(theirs)
        state = {"event": "state", "service": "a", "status": "running", "ip": "10.77.0.2", "image": "i", "exit": None}
        self._channel.send(state)
        self._channel.send({"event": "ready"})
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()
        self.client = Client(ours, "e1")
        self.client.wait_ready(5)

    def close(self) -> None:
        self.client.close()
        self._thread.join()
        self._channel.close()

    def _answer(self) -> None:
        while (received := self._channel.receive()) is not None:
            message, _ = received
            self.asked.append(message["do"])
            kind = {} if self.kind is None else {"kind": self.kind}
            self._channel.send({"id": message["id"], "error": FULL, **kind})


@pytest.fixture
def init() -> Iterator[Init]:
    init = Init()
    yield init
    init.close()


@pytest.fixture
def site(init: Init) -> Iterator[EmbeddedSite]:
    http = HttpClient()
    prepared: dict[str, Any] = {"name": "a"}
    enclosure = Enclosure("e1", "/nowhere", "", init.client, None)
    yield EmbeddedSite(enclosure, http, lambda _: prepared, lambda *_: pytest.fail("no fork"))
    http.close()


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda site: site.observe(), EngineError, f"enclave e1 cannot tell of its services: {FULL}"),
        (lambda site: site.reserve("a"), EngineError, f'service "a" cannot have an address: {FULL}'),
        (lambda site: site.accepts("a", WEB), EngineError, f'port 80 of service "a" cannot be looked at: {FULL}'),
        (lambda site: site.act("a", Action.PAUSE), ServiceError, f'service "a": pause failed: {FULL}'),
        (lambda site: site.dial("a", WEB), NotReached, f"there can be no way to port 80: {FULL}"),
        (lambda site: site.exec("a", ["ls"], None), NotReached, f"the command cannot be run: {FULL}"),
        (lambda site: list(site.read("a", "/x")), NotReached, f"there is no /x: {FULL}"),
        (lambda site: site.freeze(), ServiceError, f"a service did not start again after it was frozen: {FULL}"),
    ],
)
@pytest.mark.parametrize("kind", ["system", None])
def test_the_answers_error_is_told(
    init: Init,
    site: EmbeddedSite,
    ask: Callable[[EmbeddedSite], object],
    error: type[Exception],
    message: str,
    kind: str | None,
):
    init.kind = kind
    with pytest.raises(error) as caught:
        ask(site)
    assert getattr(caught.value, "message", str(caught.value)) == message


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda site: site.dial("a", WEB), "there is no such service"),
        (lambda site: site.exec("a", ["ls"], None), "the service does not run"),
        (lambda site: list(site.read("a", "/x")), "there is no such service"),
    ],
)
def test_a_service_that_is_gone_by_then_is_not_reached(
    init: Init, site: EmbeddedSite, ask: Callable[[EmbeddedSite], object], message: str
):
    init.kind = "absent"
    with pytest.raises(NotReached, match=f"^{message}$"):
        ask(site)


def test_a_service_with_public_ports_whose_former_ones_cannot_be_dropped_does_not_start(init: Init, site: EmbeddedSite):
    spec = ServiceSpec("a", "i", public_ports={"web": PortSpec(8080)}, address=Address("a", "10.77.0.2"))
    outcome = site.start([spec], dict[str, Path](), 1)["a"]
    assert outcome is not None
    assert outcome.message == f'ways to the ports of service "a" cannot be made anew: {FULL}'
    assert init.asked == ["unrelay"]


def test_of_logs_that_cannot_be_had_there_are_none(site: EmbeddedSite):
    assert site.logs("a") == []
