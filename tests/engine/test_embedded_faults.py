"""Every request to an enclave's init fails once, and every process of an enclave is killed before every request."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.engine.embedded import client as client_module
from pytest_enclave.engine.embedded.client import Client, Reply
from pytest_enclave.engine.embedded.engine import EmbeddedEngine, run_directory
from pytest_enclave.engine.protocol import Leak, Site
from pytest_enclave.errors import EnclaveError
from pytest_enclave.run.pipeline import Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal
from tests.engine.enclave_processes import Processes, kill
from tests.engine.engine_enclave import enclave_id
from tests.laboratory import Laboratory

ANSWER = 4.0
"""Seconds that an answer may take here."""

SOON = 20.0
"""Seconds within which all is over, whatever fails."""

SCRIPT = """
def run(plan):
    page = plan.render_templates({"index.html": struct(template = "hello", data = {})}, name = "page")
    sleeps = ["sh", "-c", "trap exit TERM; while :; do sleep 0.05; done"]
    plan.add_services({
        "web": ServiceConfig(
            image = "enclave-test/busybox:local",
            cmd = ["httpd", "-f", "-p", "80", "-h", "/www"],
            ports = {"http": PortSpec(80, application_protocol = "http")},
            files = {"/www": page},
        ),
        "db": ServiceConfig(
            image = "enclave-test/busybox:local",
            cmd = sleeps,
            files = {"/data": Directory(persistent_key = "data")},
        ),
    })
    plan.exec("db", ExecRecipe(["touch", "/data/file"]))
    plan.request("web", GetHttpRequestRecipe("http", "/"))
    plan.store_service_files("web", "/etc/passwd")
    plan.stop_service("db")
    plan.start_service("db")
    plan.remove_service("db")
"""


class Fault(Enum):
    """How a request fails."""

    REFUSED = "refused"
    SILENT = "silent"
    """It is not sent, and never answered."""
    LOST = "lost"
    """The connection ends before it is sent."""


@dataclass
class Double:
    """Between a client and init: does something once, and remembers all requests.

    At the so-and-so-many-th, or the next one after it that is of the kind: how often a port is looked at is chance.
    """

    at: int = -1
    kind: str = ""
    deed: Callable[[Client], Future[Reply] | None] = lambda _: None
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def submit(self, client: Client, request: dict[str, Any]) -> Future[Reply] | None:
        """The answer, or None if init is to give it."""
        with self._lock:
            number, kind = len(self.requests), f"{request['do']} {request.get('action', '')}".strip()
            self.requests.append(kind)
            now = 0 <= self.at <= number and kind == self.kind
            if now:
                self.at = -1
        return self.deed(client) if now else None


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> dict[str, Double]:
    """A double for each enclave, by its name."""
    doubles: dict[str, Double] = {}
    submit = Client.submit

    def doubled(client: Client, request: dict[str, Any], descriptors: Sequence[int] = ()) -> tuple[int, Future[Reply]]:
        double = doubles.get(client._enclave)
        answer = double.submit(client, request) if double else None
        return (0, answer) if answer is not None else submit(client, request, descriptors)

    monkeypatch.setattr(Client, "submit", doubled)
    monkeypatch.setattr(client_module, "ANSWER", ANSWER)
    return doubles


def fail(fault: Fault) -> Callable[[Client], Future[Reply] | None]:
    """What a double does."""

    def deed(client: Client) -> Future[Reply] | None:
        answer: Future[Reply] = Future()
        if fault is Fault.REFUSED:
            answer.set_result(({"error": "out of order, says the double"}, []))
        elif fault is Fault.LOST:
            client._socket.shutdown(2)
            return None
        return answer

    return deed


class Session:
    """All that a session does with an enclave, on an engine of its own."""

    def __init__(self, root: Path, tools: Tools, doubles: dict[str, Double]) -> None:
        self.id = enclave_id()
        self.root = root / self.id.name
        self.root.mkdir()
        self.engine = EmbeddedEngine()
        self.site: Site = self.engine.open(self.id)
        self.processes = Processes(self.engine)
        self.journal = Journal(self.root / "journal")
        store = ArtifactStore(self.root / "files", self.journal)
        self.lab = Laboratory(EnclaveState(self.id, self.engine, self.site, self.journal, store), tools)
        self.fork_id = enclave_id()
        self.double = Double()
        doubles[self.id.name] = doubles[self.fork_id.name] = self.double
        self.fork: Site | None = None

    def run(self) -> None:
        """Raises the first error."""
        self.lab.ok(SCRIPT)
        self.site.logs("web")
        self.site.freeze()
        self.fork = self.site.fork(self.fork_id)

    def close(self) -> list[str]:
        """What is not as it should be at the end."""
        self.double.at = -1
        leaks: list[Leak] = [leak for site in (self.fork, self.site) if site is not None for leak in site.close()]
        self.journal.close()
        leaks += self.engine.close()
        wrong = [f"leak told: {leak}" for leak in leaks]
        if not self.processes.gone():
            wrong.append("processes are left")
        names = (self.id.name, self.fork_id.name)
        wrong += [f"{name} is left" for name in names if (run_directory(os.environ) / name).exists()]
        deadline = time.monotonic() + 3
        while left := [each.name for each in threading.enumerate() if any(name in each.name for name in names)]:
            if time.monotonic() > deadline:
                return [*wrong, f"threads go on: {left}"]
            time.sleep(0.02)
        return wrong


ENDLESS = [(Fault.SILENT.value, "exec")]
"""A command without a deadline may take as long as it likes: nobody can tell that it is not answered."""

OBSCURE = re.compile(r"Traceback|Error\(|KeyError|object at 0x|Errno|None|\{")


@dataclass(frozen=True)
class Trials:
    """Sessions in which something fails."""

    root: Path
    tools: Tools
    doubles: dict[str, Double]

    def session(self) -> Session:
        """One with a double."""
        return Session(self.root, self.tools, self.doubles)

    def requests(self) -> list[str]:
        """All that a session without faults asks for."""
        session = self.session()
        session.run()
        found = list(session.double.requests)
        assert session.close() == []
        return found

    def trial(self, at: int, request: str, what: str, deed: Callable[[Session], Any]) -> str:
        """What is told when something fails before that request, and what is wrong then."""
        session = self.session()
        session.double.at, session.double.kind, session.double.deed = at, request, deed(session)
        began = time.monotonic()
        wrong: list[str] = []
        told = "tolerated"
        try:
            session.run()
        except EnclaveError as error:
            told = f"{type(error).__name__}: {error}"
            if "\n" in str(error) or OBSCURE.search(str(error)):
                wrong.append("obscure")
        except Exception as error:
            told = repr(error)
            wrong.append("not an EnclaveError")
        wrong += session.close()
        if (took := time.monotonic() - began) > SOON:
            wrong.append(f"took {took:.0f} s")
        return f"{at} {request} {what}: {told}" + "".join(f"\n    wrong: {each}" for each in wrong)


@pytest.fixture
def trials(tmp_path: Path, tools: Tools, doubles: dict[str, Double]) -> Trials:
    """Sessions with doubles."""
    return Trials(tmp_path, tools, doubles)


def all_of(trials: Trials, what: str, deed: Callable[[Session], Any]) -> list[str]:
    """The same at every request."""
    requests = [each for each in enumerate(trials.requests()) if (what, each[1]) not in ENDLESS]
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda each: trials.trial(each[0], each[1], what, deed), requests))
    if path := os.environ.get("FAULTS_TABLE"):
        with open(path, "a") as table:
            table.write("".join(f"{each}\n" for each in told))
    return [each for each in told if "wrong" in each]


@pytest.mark.parametrize("fault", Fault)
def test_a_request_that_fails_is_told_once_and_leaves_nothing(trials: Trials, fault: Fault):
    assert all_of(trials, fault.value, lambda _: fail(fault)) == []


@pytest.mark.parametrize("victim", ["launcher", "supervisor", "boot", "init", "keeper", "relay", "names"])
def test_a_process_killed_before_any_request_is_told_once_and_leaves_nothing(trials: Trials, victim: str):
    def deed(session: Session) -> Callable[[Client], None]:
        def attack(_: Client) -> None:
            with suppress(ProcessLookupError):
                kill(getattr(session.processes, victim))

        return attack

    assert all_of(trials, victim, deed) == []
