"""Services that talk to each other, and ways to see how their packets travel."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass

from pytest_enclave.engine.protocol import Action, ServiceSpec
from pytest_enclave.plan.connections import BLOCKED, Connection, ConnectionMatrix, Delay
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import PYTHON, Enclave

ECHO = PortSpec(7000)

LATE = 30.0
"""Milliseconds that a busy machine may add to a round trip."""

SERVER = """
import socket, sys, threading
def back(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)
def accept(listener):
    while True:
        threading.Thread(target=back, args=(listener.accept()[0],), daemon=True).start()
listener = socket.create_server(("", 7000))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
datagrams.bind(("", 7000))
while True:
    data, sender = datagrams.recvfrom(2000)
    if data.startswith(b"note "):
        print(data.decode(), flush=True)
    else:
        datagrams.sendto(data, sender)
"""
"""Sends back what comes in by TCP and UDP; what begins with `note` goes to the log instead."""

PROBE = """
import json, socket, sys, threading, time
host, count, pause, patience = sys.argv[1], *map(float, sys.argv[2:])
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
own.connect((host, 7000))
sent, came = {}, {}
def listen():
    while True:
        try:
            number = int(own.recv(100))
        except OSError:
            continue
        came[number] = time.perf_counter()
threading.Thread(target=listen, daemon=True).start()
for number in range(int(count)):
    sent[number] = time.perf_counter()
    try:
        own.send(b"%d" % number)
    except OSError:
        pass
    time.sleep(pause)
over = time.perf_counter() + patience
while len(came) < count and time.perf_counter() < over:
    time.sleep(0.001)
print(json.dumps([[number, (came[number] - sent[number]) * 1000] for number in list(came)]))
"""
"""Sends numbered datagrams; the numbers of those that came back, as they came, with the milliseconds each took."""

NOTE = """
import socket, sys, time
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[3])):
    own.sendto(f"note {sys.argv[2]} {number}".encode(), (sys.argv[1], 7000))
    time.sleep(0.002)
"""
"""Sends datagrams that are noted down where they arrive."""

TALKER = """
import socket, sys, time
own = socket.create_connection((sys.argv[1], 7000))
own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
number = 0
while True:
    number += 1
    own.sendall(b"%d\\n" % number)
    answer = b""
    while not answer.endswith(b"\\n"):
        answer += own.recv(100) or sys.exit("the connection was closed")
    print(answer.decode().strip(), flush=True)
    time.sleep(0.02)
"""
"""Keeps one TCP connection, and logs each number that came back."""


@dataclass
class Talk:
    """Services of an enclave that answer each other."""

    enclave: Enclave

    def spec(self, name: str) -> ServiceSpec:
        """A service that answers."""
        return self.enclave.spec(name, PYTHON, entrypoint=("python3", "-c", SERVER), cmd=(), ports={"echo": ECHO})

    def up(self, *names: str) -> None:
        """Start services that answer, and wait until they do."""
        outcomes = self.enclave.start(*map(self.spec, names))
        assert not any(outcomes.values()), outcomes
        for name in names:
            self.enclave.wait_open(name, ECHO)

    def restart(self, name: str) -> None:
        """Stop a service, start it again, and wait until it answers."""
        self.enclave.site.act(name, Action.STOP)
        self.enclave.site.act(name, Action.START)
        self.enclave.wait_open(name, ECHO)

    def probe(self, by: str, to: str, count: int = 20, pause: float = 0.005, patience: float = 1.5) -> list[tuple]:
        """Datagrams that came back, as they came: number, and milliseconds."""
        command = ["python3", "-c", PROBE, to, str(count), str(pause), str(patience)]
        result = self.enclave.site.exec(by, command, None)
        assert result.code == 0, result
        return [(number, taken) for number, taken in json.loads(result.output)]

    def round_trip(self, by: str, to: str, count: int = 20) -> float:
        """Milliseconds, the median; all must come back."""
        came = self.probe(by, to, count, 0.01, 5)
        assert len(came) == count
        return statistics.median(taken for _, taken in came)

    def came_back(self, by: str, to: str, count: int = 20, patience: float = 0.5) -> int:
        """Of so many datagrams, how many came back."""
        return len(self.probe(by, to, count, 0.002, patience))

    def note(self, by: str, to: str, word: str, count: int = 20) -> None:
        """Send datagrams in one direction."""
        result = self.enclave.site.exec(by, ["python3", "-c", NOTE, to, word, str(count)], None)
        assert result.code == 0, result

    def noted(self, at: str, word: str) -> list[int]:
        """The numbers of those that arrived, in that order."""
        lines = [line.text.split() for line in self.enclave.site.logs(at)]
        return [int(number) for _, said, number in lines if said == word]

    def shape(self, connections: ConnectionMatrix, seed: int = 1) -> None:
        """Say how packets travel."""
        self.enclave.site.shape(connections, seed)


def both_ways(connection: Connection, one: str, *others: str) -> ConnectionMatrix:
    """The same in both directions, between one service and each of the others."""
    return {pair: connection for other in others for pair in ((one, other), (other, one))}


def delay(milliseconds: float) -> Connection:
    """A connection that holds up each packet for as long."""
    return Connection(delay=Delay(milliseconds))


def blocked(one: str, *others: str) -> ConnectionMatrix:
    """Nothing passes in either direction."""
    return both_ways(BLOCKED, one, *others)
