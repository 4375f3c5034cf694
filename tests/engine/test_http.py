"""What requests tell when they cannot be sent, or take too long."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from pytest_enclave.engine.http import HttpClient
from pytest_enclave.engine.protocol import DeadlineExceeded, Endpoint, HttpRequest, NotReached


@pytest.mark.parametrize("headers", [{"A": "b\r\nc"}, {"A": "\u0100"}])
def test_headers_that_cannot_be_sent_are_told_in_one_line(headers: dict[str, str]) -> None:
    with pytest.raises(NotReached, match=r"^the request cannot be sent: ") as caught:
        HttpClient().send(Endpoint("127.0.0.1", 1), HttpRequest("GET", "/", headers), None)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"], ids=["none", "half"])
def test_an_answer_that_takes_too_long_is_told_with_how_long_it_may_take(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = HttpClient()

        def respond() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
                time.sleep(0.6)

        thread = threading.Thread(target=respond)
        thread.start()
        with pytest.raises(DeadlineExceeded) as caught:
            client.send(Endpoint("127.0.0.1", port), HttpRequest("GET", "/", {}), time.monotonic() + 0.3)
        thread.join()
    assert str(caught.value) == "the answer took longer than 0.3 s"
    assert caught.value.__cause__ is None
