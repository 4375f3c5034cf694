"""The relay of the embedded engine, on loopback."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.datagrams import Datagrams
from pytest_enclave.engine.embedded.inside.polling import Poll
from pytest_enclave.engine.embedded.inside.relay import serve
from tests.engine.inside_process import Inside, inside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine needs Linux")

Work = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def relay() -> Iterator[Inside]:
    with inside("relay") as process:
        yield process


@contextmanager
def service(work: Work) -> Iterator[tuple[str, int]]:
    """Something that listens, and serves each connection in a thread."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    threads: list[threading.Thread] = []

    def attend(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(30)
            work(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=attend, args=(listening.accept()[0],)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listening.getsockname()
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listening.close()
        for thread in threads:
            thread.join()


def relayed(relay: Inside, to: tuple[str, int], key: str = "key", protocol: str = "tcp") -> tuple[str, int]:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as outside:
        outside.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            outside.listen()
        relay.channel.send({"do": "listen", "key": key, "protocol": protocol, "to": to}, [outside.fileno()])
        return outside.getsockname()


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 20), b""))


def echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=20)


def is_reset(connection: socket.socket) -> bool:
    try:
        connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def test_a_request_and_its_answer_pass_quickly(relay: Inside):
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

    times = []
    with service(answer) as address:
        outside = relayed(relay, address)
        for _ in range(200):
            began = time.perf_counter()
            with connect(outside) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert everything(client).endswith(b"hello")
            times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.01


def test_a_service_that_speaks_first_is_heard(relay: Inside):
    with (
        service(lambda connection: connection.sendall(b"220 ready")) as address,
        connect(relayed(relay, address)) as client,
    ):
        assert everything(client) == b"220 ready"


def test_large_transfers_in_both_directions_at_once_are_whole(relay: Inside):
    sent = os.urandom(1 << 20) * 48
    received: list[bytes] = []

    def exchange(connection: socket.socket) -> None:
        sender = threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        received.append(everything(connection))
        sender.join()

    with service(exchange) as address, connect(relayed(relay, address)) as client:
        exchange(client)
    wanted = hashlib.sha256(sent).digest()
    assert [hashlib.sha256(data).digest() for data in received] == [wanted, wanted]


def test_a_client_that_has_said_all_still_gets_its_answer(relay: Inside):
    def count(connection: socket.socket) -> None:
        length = len(everything(connection))
        time.sleep(0.1)
        connection.sendall(str(length).encode())

    with service(count) as address, connect(relayed(relay, address)) as client:
        client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b"100000"


def test_a_service_that_has_said_all_still_listens(relay: Inside):
    heard: list[bytes] = []

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        heard.append(everything(connection))

    with service(greet) as address, connect(relayed(relay, address)) as client:
        assert everything(client) == b"bye"
        client.sendall(b"but wait")
        client.shutdown(socket.SHUT_WR)
    assert heard == [b"but wait"]


def test_a_refused_connection_is_reset_at_once(relay: Inside):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    outside = relayed(relay, address)
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(ConnectionResetError), connect(outside) as client:
            client.recv(1)
    assert time.monotonic() - began < 2


def test_an_unreachable_service_resets_too(relay: Inside):
    with pytest.raises(ConnectionResetError), connect(relayed(relay, ("255.255.255.255", 80))) as client:
        client.recv(1)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def test_what_a_service_said_before_it_reset_the_connection_arrives(relay: Inside):
    def refuse(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"413")
        time.sleep(0.05)
        reset(connection)

    with service(refuse) as address, connect(relayed(relay, address)) as client:
        client.sendall(b"x")
        assert client.recv(3) == b"413"
        assert is_reset(client)


def test_a_reset_by_the_client_reaches_the_service(relay: Inside):
    outcomes: list[bool] = []
    with service(lambda connection: outcomes.append(is_reset(connection))) as address:
        client = connect(relayed(relay, address))
        time.sleep(0.05)
        reset(client)
    assert outcomes == [True]


def test_a_slow_reader_holds_the_service_up_and_no_memory(relay: Inside):
    # More than all buffers of sockets on the way hold: a kernel may give each of the four tens of MiB.
    megabytes, written = 256, [0]

    def flood(connection: socket.socket) -> None:
        for _ in range(megabytes):
            connection.sendall(b"x" * (1 << 20))
            written[0] += 1

    with service(flood) as address, connect(relayed(relay, address)) as client:
        before, used = relay.memory(), relay.cpu()
        time.sleep(1)
        assert written[0] < megabytes
        assert relay.memory() - before < 4 << 20
        assert relay.cpu() - used < 50
        assert len(everything(client)) == megabytes << 20


def test_a_service_held_up_after_the_client_has_said_all_costs_no_time(relay: Inside):
    def flood(connection: socket.socket) -> None:
        everything(connection)
        connection.sendall(b"x" * (8 << 20))

    with service(flood) as address, connect(relayed(relay, address)) as client:
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        used = relay.cpu()
        time.sleep(0.5)
        assert relay.cpu() - used < 10
        assert len(everything(client)) == 8 << 20


def test_200_connections_at_once(relay: Inside):
    with service(echo) as address, ExitStack() as stack:
        outside = relayed(relay, address)
        clients = [stack.enter_context(connect(outside)) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number * 1000)
            client.shutdown(socket.SHUT_WR)
        assert [everything(client) for client in clients] == [b"%d" % number * 1000 for number in range(200)]


def test_urgent_data_does_not_stop_a_connection(relay: Inside):
    with service(echo) as address, connect(relayed(relay, address)) as client:
        client.sendall(b"before")
        client.send(b"!", socket.MSG_OOB)
        client.sendall(b"after")
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b"beforeafter"


def test_too_many_connections_wait_and_are_served_then():
    with inside("relay", "ulimit -n 64") as small, service(echo) as address, ExitStack() as stack:
        outside = relayed(small, address)
        clients = [stack.enter_context(connect(outside)) for _ in range(60)]
        for client in clients:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
        assert [everything(client) for client in clients] == [b"hello"] * 60
        assert small.descriptors() < 40


def test_where_there_is_no_pipe_bytes_are_copied():
    data = os.urandom(1 << 20) * 8
    with inside("relay", "ulimit -n 8") as small, service(echo) as address, connect(relayed(small, address)) as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert everything(client) == data
        sender.join()


def test_where_the_kernel_refuses_to_splice_bytes_are_copied(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "splice", refuse)
    connection, other = socket.socketpair()
    process = Inside(0, Channel(connection))
    serving = threading.Thread(target=serve, args=(Channel(other),))
    serving.start()
    with other, service(echo) as address, connect(relayed(process, address)) as client:
        for word in (b"one", b"two"):
            client.sendall(word)
            assert client.recv(3) == word
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b""
        process.channel.close()
        serving.join()


def test_what_is_dropped_resets_its_connections_and_refuses_new_ones(relay: Inside):
    with service(echo) as address:
        outside, other = relayed(relay, address, "db:sql"), relayed(relay, address, "web:http")
        with connect(outside) as client, connect(other) as kept:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            relay.channel.send({"do": "drop_service", "prefix": "db:"})
            assert is_reset(client)
            with pytest.raises(ConnectionRefusedError):
                connect(outside)
            kept.sendall(b"y")
            assert kept.recv(1) == b"y"


def test_a_service_is_dropped_with_all_its_keys(relay: Inside):
    with service(echo) as address, ExitStack() as stack:
        addresses = {key: relayed(relay, address, key) for key in ("a:1", "a:2", "ab:1")}
        clients = {key: stack.enter_context(connect(addresses[key])) for key in addresses}
        relay.channel.send({"do": "drop_service", "prefix": "a:"})
        assert is_reset(clients["a:1"])
        assert is_reset(clients["a:2"])
        clients["ab:1"].sendall(b"x")
        assert clients["ab:1"].recv(1) == b"x"


def test_connections_are_broken_and_new_ones_are_taken(relay: Inside):
    with service(echo) as address:
        outside = relayed(relay, address, "a:1")
        with connect(outside) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            relay.channel.send({"do": "break", "prefix": "a:"})
            assert is_reset(client)
        with connect(outside) as client:
            client.sendall(b"y")
            assert client.recv(1) == b"y"


def test_datagrams_find_their_way_back_to_each_client(relay: Inside):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        outside = relayed(relay, server.getsockname(), "udp", "udp")
        clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(20)]
        for number, client in enumerate(clients):
            client.settimeout(10)
            client.sendto(b"%d" % number, outside)
        for _ in clients:
            data, sender = server.recvfrom(100)
            server.sendto(b"answer to " + data, sender)
        assert [client.recv(100) for client in clients] == [b"answer to %d" % number for number in range(20)]
        clients[0].sendto(b"x" * 60_000, outside)
        assert len(server.recvfrom(65_535)[0]) == 60_000


def test_datagrams_nobody_waits_for_do_no_harm(relay: Inside):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
    outside = relayed(relay, address, "udp", "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(5):
            client.sendto(b"x", outside)
            time.sleep(0.01)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(address)
            server.settimeout(10)
            client.sendto(b"now", outside)
            assert server.recv(10) == b"now"


def test_clients_of_a_udp_port_are_bounded():
    with inside("relay", "ulimit -n 320") as small, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        outside = relayed(small, server.getsockname(), "udp", "udp")
        for number in range(100):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"%d" % number, outside)
                assert server.recv(10) == b"%d" % number
        assert small.descriptors() < 30


def test_clients_of_a_udp_port_are_forgotten_when_they_have_been_silent_for_a_minute():
    poll = Poll()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        outside.bind(("127.0.0.1", 0))
        server.bind(("127.0.0.1", 0))
        datagrams = Datagrams(outside, server.getsockname(), poll, 10)
        assert datagrams.idle_until() is None
        client.sendto(b"x", outside.getsockname())
        poll.turn(10)
        until = datagrams.idle_until()
        assert until is not None
        assert 59 < until - time.monotonic() < 60
        datagrams.expire(until - 1)
        assert datagrams.idle_until() == until
        datagrams.expire(until)
        assert datagrams.idle_until() is None
        datagrams.close()
        poll.close()


def test_nothing_stays_open_after_connections_have_ended(relay: Inside):
    with service(echo) as address:
        outside = relayed(relay, address)
        before = relay.descriptors()
        for _ in range(50):
            with connect(outside) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        deadline = time.monotonic() + 5
        while relay.descriptors() > before + 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert relay.descriptors() <= before + 8
