"""What only looks at the engine: asked over its socket, and told as the SDK would have told it."""

from __future__ import annotations

import gc
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import docker
import pytest

from pytest_enclave.engine.docker import client as client_module
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.discovery import Found, find_engine
from pytest_enclave.engine.docker.ping import Tls
from pytest_enclave.engine.docker.translation import Refused, Unanswered, translate
from pytest_enclave.engine.protocol import Probe
from pytest_enclave.errors import EngineError

Answer = tuple[int, str]


class Engine(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Gives its answers in a row: a status and a body, or what is done with the connection."""

    daemon_threads = True

    def __init__(self, family: int, address: Any) -> None:
        self.address_family = family
        super().__init__(address, Handler)
        self.answers: list[Answer | Callable[[Handler], None]] = []
        self.asked: list[str] = []
        self.connections = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False
    server: Engine

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def address_string(self) -> str:
        return "somewhere"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.pop(0)
        if callable(answer):
            self.close_connection = True
            answer(self)
            return
        self.begin(answer[0], len(answer[1]))
        self.wfile.write(answer[1].encode())

    def begin(self, status: int, length: int | None) -> None:
        self.send_response(status)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def log_request(self, *_: object) -> None:
        pass


def hang_up(_: Handler) -> None:
    """No answer at all."""


def break_off(handler: Handler) -> None:
    handler.begin(200, 100)
    handler.wfile.write(b'{"Id": "sha')


def break_off_in_a_chunk(handler: Handler) -> None:
    handler.begin(200, None)
    handler.wfile.write(b'20\r\n{"Id"')


def break_off_in_a_character(handler: Handler) -> None:
    handler.begin(200, None)
    handler.wfile.write(b'9\r\n{"Id":"\xc3\r\n0\r\n\r\n')


def stay_silent(_: Handler) -> None:
    time.sleep(1.5)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    yield from _serving(Engine(socket.AF_UNIX, str(tmp_path / "engine.sock")))


@pytest.fixture
def far_engine() -> Iterator[Engine]:
    yield from _serving(Engine(socket.AF_INET, ("127.0.0.1", 0)))


def _serving(server: Engine) -> Iterator[Engine]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def found_at(endpoint: str, api_version: str = "1.41", tls: Tls | None = None) -> Found:
    return Found(Probe(endpoint, "a test"), api_version, tls)


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    with closing(Client.of(found_at(f"unix://{engine.server_address}"), {})) as client:
        yield client


@pytest.fixture
def by_sdk(engine: Engine) -> Iterator[Client]:
    with closing(Client.over(docker.APIClient(f"unix://{engine.server_address}", version="1.41"))) as client:
        yield client


def test_looking_needs_no_sdk(client, engine, monkeypatch):
    monkeypatch.setattr(client_module, "connect", lambda *_: pytest.fail("the SDK was asked for"))
    engine.answers = [(200, "{}"), (200, "[]"), (200, "{}"), (200, "{}"), (200, "{}"), (200, "")]
    client.info()
    client.containers({"label": ["a=b"]})
    client.inspect_container("c0ffee")
    client.inspect_image("shop/db:1")
    client.inspect_network("e-1")
    with client.events({"label": ["a=b"], "event": ["die", "oom"]}) as events:
        assert list(events) == []
    asked = [urlsplit(each) for each in engine.asked]
    assert [each.path.removeprefix("/v1.41") for each in asked] == [
        "/info",
        "/containers/json",
        "/containers/c0ffee/json",
        "/images/shop%2Fdb%3A1/json",
        "/networks/e-1",
        "/events",
    ]
    assert parse_qs(asked[1].query) == {"all": ["1"], "filters": ['{"label": ["a=b"]}']}
    assert json.loads(parse_qs(asked[5].query)["filters"][0]) == {"label": ["a=b"], "event": ["die", "oom"]}


@pytest.mark.parametrize("way", ["client", "by_sdk"])
def test_the_engine_is_asked_the_same_whichever_way(way, engine, request):
    client = request.getfixturevalue(way)
    engine.answers = [(200, '[{"Id": "c0ffee"}]'), (200, '{"Id": "sha256:one"}'), (200, '{"status": "die"}\n')]
    assert client.containers({"label": ["a=b"]}) == [{"Id": "c0ffee"}]
    assert client.inspect_image("shop/db:1") == {"Id": "sha256:one"}
    with client.events({"type": ["container"]}) as events:
        assert list(events) == [{"status": "die"}]
    assert [urlsplit(each).path for each in engine.asked] == [
        "/v1.41/containers/json", "/v1.41/images/shop%2Fdb%3A1/json", "/v1.41/events",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((404, '{"message": "No such image: db"}'), Refused, "No such image: db"),
        ((500, '{"message": "container ' + "a" * 64 + ' is lost: unknown"}'), Refused, f"container {'a' * 12} is lost"),
        ((502, "Bad Gateway, says the proxy"), Refused, "Bad Gateway, says the proxy"),
        ((503, '{"error": "no message"}'), Refused, '{"error": "no message"}'),
        ((500, ""), Refused, "status 500"),
        (hang_up, Unanswered, "the connection to the Docker engine is lost (it hung up without an answer)"),
        (break_off, Unanswered, "the connection to the Docker engine is lost (its answer broke off)"),
        (break_off_in_a_chunk, Unanswered, "the connection to the Docker engine is lost (its answer broke off)"),
        ((200, '{"Id": '), Unanswered, "the connection to the Docker engine is lost (its answer broke off)"),
        (stay_silent, Unanswered, "the Docker engine does not answer"),
    ],
)
@pytest.mark.parametrize("way", ["client", "by_sdk"])
def test_what_goes_wrong_is_told_the_same_whichever_way(way, answer, kind, told, engine, request):
    client = request.getfixturevalue(way)
    client.timeout = 0.5
    engine.answers = [answer]
    with pytest.raises(EngineError) as error, translate("cannot look"):
        client.inspect_image("db")
    assert (type(error.value), str(error.value)) == (kind, f"cannot look: {told}")
    if isinstance(error.value, Refused):
        assert (error.value.status, error.value.explanation) == (answer[0], told)


@pytest.mark.parametrize("way", ["client", "by_sdk"])
# The SDK leaves what could not connect to the collector of garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_has_gone_is_told_the_same_whichever_way(way, tmp_path):
    endpoint = f"unix://{tmp_path}/nobody.sock"
    sdk = docker.APIClient(endpoint, version="1.41")
    client = Client.of(found_at(endpoint), {}) if way == "client" else Client.over(sdk)
    with closing(sdk), closing(client), pytest.raises(EngineError) as error, translate("cannot look"):
        client.info()
    lost = "cannot look: the connection to the Docker engine is lost (No such file or directory)"
    assert (type(error.value), str(error.value)) == (Unanswered, lost)
    del error
    gc.collect()


def test_what_is_no_fault_of_the_engine_is_not_translated():
    with pytest.raises(KeyError), translate("cannot look"):
        raise KeyError("Id")
    inner = EngineError("told already")
    with pytest.raises(EngineError) as error, translate("cannot look"):
        raise inner
    assert error.value is inner


# Connections


def test_a_connection_is_kept_also_after_a_refusal_was_read(client, engine):
    engine.answers = [(200, "{}"), (200, "{}"), (404, "{}"), (200, "{}")]
    client.info()
    client.info()
    assert engine.connections == 1
    with pytest.raises(Refused), translate("cannot look"):
        client.info()
    client.info()
    assert engine.connections == 2


def test_a_connection_that_the_engine_has_ended_meanwhile_is_no_fault(client, engine):
    def answer_and_hang_up(handler: Handler) -> None:
        handler.begin(200, 2)
        handler.wfile.write(b"{}")

    engine.answers = [answer_and_hang_up, (200, '{"NCPU": 2}')]
    client.info()
    time.sleep(0.1)
    assert client.info() == {"NCPU": 2}
    assert engine.connections == 2


def test_threads_do_not_wait_for_each_other(client, engine):
    both = threading.Barrier(2, timeout=5)

    def together(handler: Handler) -> None:
        both.wait()
        handler.begin(200, 2)
        handler.wfile.write(b"{}")

    engine.answers = [together, together]
    threads = [threading.Thread(target=client.info) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.connections == 2


def test_what_is_asked_while_the_client_is_closed_leaves_no_connection(client, engine):
    asked, closed = threading.Event(), threading.Event()

    def late(handler: Handler) -> None:
        asked.set()
        assert closed.wait(5)
        handler.begin(200, 2)
        handler.wfile.write(b"{}")

    engine.answers = [late]
    thread = threading.Thread(target=client.info)
    thread.start()
    assert asked.wait(5)
    client.close()
    closed.set()
    thread.join()
    assert client._wire is not None
    assert client._wire._idle == []


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_an_engine_on_another_machine_is_asked_in_the_same_way(scheme, far_engine, monkeypatch):
    monkeypatch.setattr(client_module, "connect", lambda *_: pytest.fail("the SDK was asked for"))
    far_engine.answers = [(200, '{"NCPU": 64}')]
    host, port = far_engine.server_address[:2]
    with closing(Client.of(found_at(f"{scheme}://{host}:{port}"), {})) as client:
        assert client.info() == {"NCPU": 64}


@pytest.mark.parametrize(
    "found",
    [
        found_at("tcp://engine:2376", tls=Tls(Path("/certificates"))),
        found_at("https://engine:2376"),
        found_at("ssh://engine", ""),
        found_at("npipe:////./pipe/docker_engine", ""),
    ],
    ids=["tls", "https", "ssh", "npipe"],
)
def test_where_more_than_a_socket_is_needed_the_sdk_asks(found, engine, monkeypatch):
    sdk = docker.APIClient(f"unix://{engine.server_address}", version="1.41")
    monkeypatch.setattr(client_module, "connect", lambda *_: sdk)
    engine.answers = [(200, '{"NCPU": 64}')]
    with closing(Client.of(found, {})) as client:
        assert client.info() == {"NCPU": 64}
        assert client.sdk is sdk


@pytest.mark.parametrize(
    ("engines", "environ", "spoken"),
    [
        ("1.41", {}, "v1.41"),
        ("1.9", {}, "v1.9"),
        ("1.44", {}, "v1.44"),
        ("1.52", {}, "v1.44"),
        ("2.0", {}, "v1.44"),
        ("1.41", {"DOCKER_API_VERSION": "1.40"}, "v1.40"),
        ("1.41", {"DOCKER_API_VERSION": "auto"}, "v1.41"),
        ("1.41", {"DOCKER_API_VERSION": ""}, "v1.41"),
    ],
)
def test_the_newest_version_that_both_know_is_spoken(engines, environ, spoken, engine):
    engine.answers = [(200, "{}")]
    with closing(Client.of(found_at(f"unix://{engine.server_address}", engines), environ)) as client:
        client.info()
    assert engine.asked == [f"/{spoken}/info"]


# Events


def test_events_are_told_as_they_come_and_end_when_somebody_hangs_up(client, engine):
    told, go_on, over = [], threading.Event(), threading.Event()

    def happen(handler: Handler) -> None:
        handler.begin(200, None)
        handler.chunk('{"Action": "start"}\n')
        assert go_on.wait(5)
        # What comes together, and what comes in pieces.
        handler.chunk('{"Action": "die"}\n\n{"Action"')
        handler.chunk(': "oom"}\n')
        over.wait(5)

    engine.answers = [happen]
    client.timeout = 0.2
    streams = []

    def read() -> None:
        with client.events({}) as events:
            streams.append(events)
            told.append(next(iter(events)))
            # Longer than a call may take.
            time.sleep(0.4)
            go_on.set()
            told.extend(events)

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 5
    while len(told) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    streams[0].close()
    reader.join(5)
    assert not reader.is_alive()
    over.set()
    assert [each["Action"] for each in told] == ["start", "die", "oom"]


def test_events_that_nobody_reads_leave_no_connection(client, engine):
    engine.answers = [(200, '{"Action": "start"}\n')]
    with client.events({}) as events:
        pass
    assert events._socket.fileno() == -1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((500, '{"message": "no events today"}'), "no events today"),
        (hang_up, "the connection to the Docker engine is lost (it hung up without an answer)"),
        (break_off_in_a_chunk, "the connection to the Docker engine is lost (its answer broke off)"),
        (break_off_in_a_character, "the connection to the Docker engine is lost (its answer broke off)"),
        (stay_silent, "the Docker engine does not answer"),
    ],
)
def test_events_that_cannot_be_followed_are_told_of(client, engine, answer, told):
    client.timeout = 0.5
    engine.answers = [answer]
    with pytest.raises(EngineError) as error, translate("cannot follow"), client.events({}) as events:
        list(events)
    assert str(error.value) == f"cannot follow: {told}"


# A real engine


@pytest.mark.docker
def test_a_real_engine_tells_both_ways_the_same(docker_host):
    with closing(Client.of(find_engine(docker_host, {}), {})) as client:
        by_sdk = Client.over(client.sdk)
        name = "enclave-test/busybox:local"
        assert name in client.inspect_image(name)["RepoTags"]
        assert client.inspect_image(name) == by_sdk.inspect_image(name) == client.sdk.inspect_image(name)
        assert client.inspect_network("bridge")["Id"] == client.sdk.inspect_network("bridge")["Id"]
        assert client.info()["NCPU"] == client.sdk.info()["NCPU"]
        with pytest.raises(Refused) as refused, translate("cannot look"):
            client.inspect_container("nobody")
        assert (refused.value.status, refused.value.explanation) == (404, "No such container: nobody")
