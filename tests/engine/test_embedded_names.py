"""The names of an enclave's services: hosts file and name server, on loopback."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_enclave.engine.embedded.inside.names import MOST_CONNECTIONS, hosts_text
from pytest_enclave.engine.embedded.inside.questions import Malformed, Table, read_question, refusal
from tests.engine.inside_process import Inside, inside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine needs Linux")

NAMES = {"db": "10.77.0.2", "Web-1": "10.77.0.3", "api.internal": "10.77.0.4"}

A, PTR, AAAA, TXT, OPT, ANY = 1, 12, 28, 16, 41, 255

OK, FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 2, 3, 4

Address = tuple[str, int]


@pytest.fixture(scope="module")
def process() -> Iterator[Inside]:
    with inside("names") as running:
        yield running


@pytest.fixture
def server(process: Inside) -> Iterator[Address]:
    with serving(process) as address:
        yield address


@contextmanager
def serving(process: Inside, key: str = "key", *upstream: Address) -> Iterator[Address]:
    with listening() as (udp, tcp):
        process.channel.send({"do": "names", "names": NAMES})
        process.channel.send({"do": "upstream", "servers": upstream})
        process.channel.send({"do": "serve", "key": key}, [udp.fileno(), tcp.fileno()])
        yield udp.getsockname()
        process.channel.send({"do": "forget", "key": key})


@contextmanager
def listening() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP and a TCP socket at the same port."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(tcp.getsockname())
        yield udp, tcp


def name_bytes(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".")) + b"\0"


def query(name: str, kind: int = A, number: int = 7, extra: bytes = b"") -> bytes:
    header = struct.pack("!6H", number, 0x0100, 1, 0, 0, 1 if extra else 0)
    return header + name_bytes(name) + struct.pack("!HH", kind, 1) + extra


def parsed(packet: bytes) -> tuple[int, list[bytes]]:
    """The code of an answer, and the data of its records."""
    number, flags, questions, answers, _, _ = struct.unpack_from("!6H", packet)
    assert (number, flags >> 15) == (7, 1)
    position = 12
    for _ in range(questions):
        position = packet.index(b"\0", position) + 5
    records = []
    for _ in range(answers):
        pointer, _, family, _, length = struct.unpack_from("!HHHIH", packet, position)
        assert (pointer, family) == (0xC00C, 1)
        records.append(packet[position + 12 : position + 12 + length])
        position += 12 + length
    assert position == len(packet)
    return flags & 15, records


def ask(server: Address, packet: bytes, patience: float = 10) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        client.sendto(packet, server)
        answer, sender = client.recvfrom(65_535)
        assert sender == server
        return answer


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("db", "10.77.0.2"),
        ("DB", "10.77.0.2"),
        ("db.", "10.77.0.2"),
        ("web-1", "10.77.0.3"),
        ("API.internal", "10.77.0.4"),
    ],
)
def test_a_service_has_its_address(server: Address, name: str, address: str):
    assert parsed(ask(server, query(name))) == (OK, [socket.inet_aton(address)])
    assert parsed(ask(server, query(name, ANY))) == (OK, [socket.inet_aton(address)])


@pytest.mark.parametrize("kind", [AAAA, TXT, PTR])
def test_a_service_has_nothing_else(server: Address, kind: int):
    assert parsed(ask(server, query("db", kind))) == (OK, [])


def test_an_address_has_its_name(server: Address):
    assert parsed(ask(server, query("3.0.77.10.in-addr.arpa", PTR))) == (OK, [name_bytes("web-1")])
    assert parsed(ask(server, query("9.0.77.10.in-addr.arpa", PTR))) == (NO_SUCH_NAME, [])


@pytest.mark.parametrize("name", ["nothing", "db.example.com", "example.com", "."])
def test_other_names_do_not_exist_and_that_is_told_at_once(server: Address, name: str):
    began = time.monotonic()
    packet = query(name) if name != "." else struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\0" + struct.pack("!HH", A, 1)
    assert parsed(ask(server, packet)) == (NO_SUCH_NAME, [])
    assert time.monotonic() - began < 1


def test_the_spelling_of_the_question_is_kept(server: Address):
    assert name_bytes("dB") in ask(server, query("dB"))


def test_extensions_are_tolerated(server: Address):
    extension = b"\0" + struct.pack("!HHIH", OPT, 4096, 0, 0)
    assert parsed(ask(server, query("db", extra=extension))) == (OK, [socket.inet_aton("10.77.0.2")])


def test_questions_over_tcp_are_answered_however_they_come(server: Address):
    packet = query("db")
    framed = struct.pack("!H", len(packet)) + packet
    with socket.create_connection(server, timeout=10) as client:
        client.sendall(framed[:1])
        time.sleep(0.02)
        client.sendall(framed[1:5])
        time.sleep(0.02)
        client.sendall(framed[5:] + framed)
        with client.makefile("rb") as stream:
            for _ in range(2):
                (length,) = struct.unpack("!H", stream.read(2))
                assert parsed(stream.read(length)) == (OK, [socket.inet_aton("10.77.0.2")])


def test_connections_that_ask_nothing_do_not_shut_others_out(server: Address):
    silent = [socket.create_connection(server) for _ in range(MOST_CONNECTIONS + 10)]
    try:
        packet = query("db")
        with socket.create_connection(server, timeout=10) as client:
            client.sendall(struct.pack("!H", len(packet)) + packet)
            assert client.recv(100)
    finally:
        for client in silent:
            client.close()


def test_names_are_replaced(process: Inside, server: Address):
    process.channel.send({"do": "names", "names": {"db": "10.77.0.9"}})
    assert parsed(ask(server, query("db"))) == (OK, [socket.inet_aton("10.77.0.9")])
    assert parsed(ask(server, query("web-1"))) == (NO_SUCH_NAME, [])


def test_services_are_served_each_at_its_own_sockets(process: Inside):
    with serving(process, "one") as one, serving(process, "two") as two:
        process.channel.send({"do": "forget", "key": "one"})
        assert parsed(ask(two, query("db"))) == (OK, [socket.inet_aton("10.77.0.2")])
        with pytest.raises(TimeoutError):
            ask(one, query("db"), patience=0.2)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (struct.pack("!6H", 7, 2 << 11, 1, 0, 0, 0) + name_bytes("db") + b"\0\1\0\1", NOT_IMPLEMENTED),
        (struct.pack("!6H", 7, 0, 2, 0, 0, 0) + name_bytes("db") + b"\0\1\0\1", FORMAT_ERROR),
        (struct.pack("!6H", 7, 0, 0, 0, 0, 0), FORMAT_ERROR),
    ],
)
def test_what_is_no_ordinary_question_is_refused(server: Address, packet: bytes, code: int):
    assert parsed(ask(server, packet)) == (code, [])


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"x",
        query("db")[:-1],
        query("db")[:13],
        struct.pack("!6H", 7, 0x8000, 1, 0, 0, 0) + name_bytes("db") + b"\0\1\0\1",
        struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        struct.pack("!6H", 7, 0, 1, 0, 0, 0) + (b"\x3f" + b"x" * 63) * 5 + b"\0\0\1\0\1",
    ],
)
def test_what_is_malformed_is_ignored(server: Address, packet: bytes):
    with pytest.raises(Malformed):
        read_question(packet)
    with pytest.raises(TimeoutError):
        ask(server, packet, patience=0.1)
    assert parsed(ask(server, query("db")))[0] == OK


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=40).map(lambda data: query("db")[:12] + data)))
@settings(max_examples=500, deadline=None)
def test_whatever_comes_is_answered_or_ignored(packet: bytes):
    try:
        question = read_question(packet)
    except Malformed:
        return
    answer = refusal(question) or Table(NAMES).answer(question) or question.failed(NO_SUCH_NAME)
    assert answer[:2] == packet[:2]
    assert answer[2] & 0x80


def test_a_server_that_is_sent_noise_lives(process: Inside, server: Address):
    @given(st.binary(max_size=600), st.binary(max_size=600))
    @settings(max_examples=100, deadline=None)
    def send(datagram: bytes, stream: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(datagram, server)
        with socket.create_connection(server) as connection:
            connection.sendall(stream)

    send()
    assert parsed(ask(server, query("db")))[0] == OK


# Upstream


@contextmanager
def upstream(reply: Callable[[bytes], list[bytes]]) -> Iterator[Address]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    packet, client = udp.recvfrom(65_535)
                except TimeoutError:
                    continue
                for answer in reply(packet):
                    udp.sendto(answer, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield udp.getsockname()
        finally:
            done.set()
            thread.join()


def found(packet: bytes, address: str = "1.2.3.4") -> bytes:
    number = struct.unpack_from("!H", packet)[0]
    data = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 60, 4) + socket.inet_aton(address)
    return struct.pack("!6H", number, 0x8180, 1, 1, 0, 0) + packet[12:] + data


def test_other_names_are_asked_upstream(process: Inside):
    asked: list[bytes] = []

    def reply(packet: bytes) -> list[bytes]:
        asked.append(packet)
        return [found(packet)]

    with upstream(reply) as other, serving(process, "key", other) as server:
        assert parsed(ask(server, query("example.com"))) == (OK, [socket.inet_aton("1.2.3.4")])
        assert parsed(ask(server, query("db"))) == (OK, [socket.inet_aton("10.77.0.2")])
        packet = query("example.com")
        with socket.create_connection(server, timeout=10) as client:
            client.sendall(struct.pack("!H", len(packet)) + packet)
            assert parsed(client.recv(500)[2:]) == (OK, [socket.inet_aton("1.2.3.4")])
    assert [packet[12:] for packet in asked] == [query("example.com")[12:]] * 2


def test_a_server_that_is_not_there_or_silent_is_followed_by_the_next(process: Inside):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        gone = closed.getsockname()
    with upstream(lambda packet: []) as silent, upstream(lambda packet: [found(packet)]) as good:
        with serving(process, "key", gone, good) as server:
            began = time.monotonic()
            assert parsed(ask(server, query("example.com")))[0] == OK
            assert time.monotonic() - began < 1
        with serving(process, "key", silent, good) as server:
            assert parsed(ask(server, query("example.com")))[0] == OK
            assert 1.9 < time.monotonic() - began < 5


def test_where_no_server_answers_that_is_told(process: Inside):
    with upstream(lambda packet: []) as silent, serving(process, "key", silent) as server:
        began = time.monotonic()
        assert parsed(ask(server, query("example.com"))) == (SERVER_FAILURE, [])
        assert 1.9 < time.monotonic() - began < 5


def test_answers_to_other_questions_are_not_believed(process: Inside):
    def reply(packet: bytes) -> list[bytes]:
        other = bytes([packet[0] ^ 1]) + packet[1:]
        return [b"", packet, found(other, "6.6.6.6"), found(query("evil.com"), "6.6.6.6"), found(packet)]

    with upstream(reply) as liar, serving(process, "key", liar) as server:
        assert parsed(ask(server, query("example.com"))) == (OK, [socket.inet_aton("1.2.3.4")])


# Programs


@pytest.mark.skipif(not shutil.which("dig"), reason="dig is not installed")
@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_dig_understands_the_answers(server: Address, way: str):
    def dig(*arguments: str) -> str:
        command = ["dig", "@127.0.0.1", "-p", str(server[1]), way, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert dig("+short", "db") == "10.77.0.2\n"
    assert dig("+short", "-x", "10.77.0.2") == "db.\n"
    assert "status: NOERROR" in dig("db", "AAAA")
    assert "status: NXDOMAIN" in dig("example.com")
    assert "warning" not in dig("db").lower()


# Hosts


def test_the_hosts_file_has_each_address_once_with_all_its_names():
    names = {"db": "10.77.0.2", "web": "10.77.0.3", "www": "10.77.0.3"}
    assert hosts_text(names).splitlines() == [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "10.77.0.2\tdb",
        "10.77.0.3\tweb www",
    ]
