"""Shaped connections: how exact delay and loss are, what others feel of it, how long it takes to block and to heal."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from benchmarks import by_enclave, by_engine
from benchmarks.measurement import Goal, Row, Timing, interleaved, stopwatch
from benchmarks.services import Kind
from pytest_enclave.engine.protocol import Site
from pytest_enclave.plan.connections import BLOCKED, Connection, ConnectionMatrix, Delay
from pytest_enclave.plan.service import PortSpec

ROUNDS = 15

PROBES = 200
"""Datagrams there and back whose times are compared."""

FURTHER = 20
"""Those that are half a second on each way."""

SAMPLE = 3000
"""Datagrams of which losses are counted."""

MEGABYTES = 256

SEED = 1

PATIENCE = 30.0
"""Seconds."""

DATAGRAMS, STREAMS = 7000, 7001

SERVER = f"""
import socket, threading
def sink():
    listener = socket.create_server(("", {STREAMS}))
    while True:
        connection, _ = listener.accept()
        while connection.recv(1 << 20):
            pass
        connection.sendall(b".")
        connection.close()
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(("", {DATAGRAMS}))
threading.Thread(target=sink, daemon=True).start()
while True:
    own.sendto(*own.recvfrom(100))
"""

PROBE = f"""
import json, socket, sys, threading, time
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.connect((sys.argv[1], {DATAGRAMS}))
count, pause, patience = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
sent, taken = {{}}, []
def listen():
    while True:
        number = int(own.recv(100))
        taken.append(time.perf_counter() - sent[number])
threading.Thread(target=listen, daemon=True).start()
for number in range(count):
    sent[number] = time.perf_counter()
    own.send(b"%d" % number)
    time.sleep(pause)
time.sleep(patience)
print(json.dumps(taken))
"""

STREAM = f"""
import socket, sys, time
data = bytes(1 << 20)
began = time.perf_counter()
with socket.create_connection((sys.argv[1], {STREAMS})) as own:
    for _ in range({MEGABYTES}):
        own.sendall(data)
    own.shutdown(socket.SHUT_WR)
    own.recv(1)
print(time.perf_counter() - began)
"""

KIND = Kind("datagrams sent back", "enclave-test/python:local", ("python3", "-c", SERVER), STREAMS, count=3)


def measure(rounds: int) -> Iterator[Row]:
    """Three services on each engine; times are taken inside of them."""
    for name in ("embedded", "docker"):
        with ExitStack() as opened:
            engine = opened.enter_context(by_enclave.engine(name))
            site = opened.enter_context(by_engine.site(engine, KIND))
            by_engine.start(site, KIND, ["a", "b", "c"])
            for service in ("a", "b", "c"):
                _await(site, service)
            _probe(site, 1, 0, 0.5)
            yield from _delays(site, name)
            yield _losses(site, name)
            yield from _beside(site, name, rounds)
            yield from _changes(site, name, rounds)


def _delays(site: Site, engine: str) -> Iterator[Row]:
    site.shape(_both_ways(Connection(delay=Delay(100))), SEED)
    near = _probe(site, PROBES, 0.02, 1)
    last = statistics.quantiles(near.seconds, n=100)[98]
    off = abs(near.median - 0.2015)
    goals = (Goal("200 to 203 ms", off, 0.0015), Goal(f"p99 ({last * 1000:.1f} ms) ≤ 210 ms", last, 0.21))
    yield Row(f"round trip, 100 ms each way, {engine}", near, goals=goals)
    site.shape(_both_ways(Connection(delay=Delay(500))), SEED)
    far = _probe(site, FURTHER, 0.02, 2)
    yield Row(f"round trip, 500 ms each way, {engine}", far, goals=(Goal("≤ 1010 ms", far.median, 1.01),))


def _losses(site: Site, engine: str) -> Row:
    site.shape(_both_ways(Connection(loss=30)), SEED)
    came = _probe(site, SAMPLE, 0.0005, 0.5)
    lost = 1 - len(came.seconds) / SAMPLE
    goal = Goal("51 ± 3 % of those sent", abs(lost - 0.51), 0.03)
    return Row(f"round trip, 30 % lost each way, {engine}", came, lost, "sent are lost", (goal,))


def _beside(site: Site, engine: str, rounds: int) -> Iterator[Row]:
    """Between two services of a subnetwork, while they are cut off from the third one, and without any connections."""
    taken = interleaved(
        {"connections": lambda: _stream(site, _both_ways(BLOCKED)), "none": lambda: _stream(site, {})}, rounds
    )
    with_, without = (Timing(tuple(taken[name])) for name in ("connections", "none"))
    ratio = with_.ratio_to(without)
    goal = Goal("≥ 90 % of the throughput", ratio, 1 / 0.9)
    yield Row(f"{MEGABYTES} MB inside a subnetwork, {engine}", with_, ratio, "without connections", (goal,))
    yield Row(f"{MEGABYTES} MB without connections, {engine}", without)


def _changes(site: Site, engine: str, rounds: int) -> Iterator[Row]:
    """Until it is so: what returns is in effect."""
    site.shape({}, SEED)
    blocks: list[float] = []
    heals: list[float] = []
    for _ in range(rounds):
        for connections, times in ((_both_ways(BLOCKED), blocks), ({}, heals)):
            with stopwatch() as taken:
                site.shape(connections, SEED)
            times.append(taken())
    yield Row(f"to block, {engine}", Timing(tuple(blocks)))
    yield Row(f"to heal, {engine}", Timing(tuple(heals)))


def _both_ways(connection: Connection) -> ConnectionMatrix:
    """Between `a` and `c`; `b` is in the same subnetwork as `a`."""
    return {("a", "c"): connection, ("c", "a"): connection, ("b", "c"): connection, ("c", "b"): connection}


def _await(site: Site, name: str) -> None:
    give_up = time.monotonic() + PATIENCE
    while not site.accepts(name, PortSpec(STREAMS)):
        if time.monotonic() > give_up:
            raise RuntimeError(f"{name} does not listen")
        site.pause(0.01)


def _probe(site: Site, count: int, pause: float, patience: float) -> Timing:
    told = _execute(site, "a", PROBE, "c", str(count), str(pause), str(patience))
    return Timing(tuple(json.loads(told)))


def _stream(site: Site, connections: Mapping[tuple[str, str], Connection]) -> float:
    site.shape(connections, SEED)
    return float(_execute(site, "a", STREAM, "b"))


def _execute(site: Site, name: str, program: str, *arguments: str) -> str:
    result = site.exec(name, ("python3", "-c", program, *arguments), None)
    if result.code != 0:
        raise RuntimeError(result.output)
    return result.output
