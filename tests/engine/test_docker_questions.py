"""Questions that go to the engine's socket itself."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pytest_enclave.engine.docker.questions import Questions


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers in a row, as bodies with their status; None hangs up."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.answers: list[tuple[int, str] | None] = []
        self.asked: list[str] = []
        self.connections = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def address_string(self) -> str:
        return "a unix socket"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(answer[1])))
        self.end_headers()
        self.wfile.write(answer[1].encode())

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def questions(engine: Engine) -> Iterator[Questions]:
    questions = Questions(str(engine.server_address), "1.41")
    yield questions
    questions.close()


def test_an_image_is_told_and_the_connection_kept(engine, questions):
    engine.answers = [(200, '{"Id": "sha256:one"}'), (200, '{"Id": "sha256:two"}')]
    assert questions.image("shop/db:1") == {"Id": "sha256:one"}
    assert questions.image("shop/db:1") == {"Id": "sha256:two"}
    assert engine.asked == ["/v1.41/images/shop%2Fdb%3A1/json"] * 2
    assert engine.connections == 1


@pytest.mark.parametrize("answer", [(404, '{"message": "no such image"}'), (500, "{}"), (200, "nonsense"), None])
def test_whatever_else_is_answered_is_for_the_sdk_to_tell(engine, questions, answer):
    engine.answers = [answer, (200, '{"Id": "sha256:one"}')]
    assert questions.image("db") is None
    assert questions.image("db") == {"Id": "sha256:one"}


def test_an_engine_that_has_gone_is_for_the_sdk_to_tell(tmp_path):
    assert Questions(str(tmp_path / "nobody.sock"), "1.41").image("db") is None


def test_a_real_engine_knows_the_name_as_users_write_it(docker_host):
    questions = Questions(docker_host.removeprefix("unix://"), "")
    told = questions.image("enclave-test/busybox:local")
    questions.close()
    assert told is not None
    assert "enclave-test/busybox:local" in told["RepoTags"]
