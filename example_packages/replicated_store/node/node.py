"""One node of a replicated store: `node.py PEER…`.

A write gets a number, higher than any that a majority knows, and counts when a majority has it. A read asks a majority,
and gives the value with the highest number. Every node tells its peers what it has, again and again, so that one that
was cut off catches up.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

Entry: TypeAlias = tuple[int, str, str]
"""A number, which node wrote it, and the value. The greater of two is the newer one."""

Entries: TypeAlias = dict[str, Entry]
"""Entries by key."""

PORT = 8000
PATIENCE = 0.3
"""Seconds until a peer that does not answer is taken for unreachable."""

INTERVAL = 0.1
"""Seconds between two rounds of telling peers what there is."""

NAME, PEERS = socket.gethostname(), sys.argv[1:]
MAJORITY = (len(PEERS) + 1) // 2 + 1


class NoMajority(Exception):
    """Too few nodes can be reached."""


class Store:
    """What this node has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: Entries = {}

    def merge(self, entries: Entries) -> Entries:
        """Take over what is newer; returns all there is then."""
        with self._lock:
            for key, entry in entries.items():
                self._entries[key] = max(self._entries.get(key, entry), entry)
            return dict(self._entries)


store = Store()
pool = ThreadPoolExecutor(16)


def tell(peer: str, entries: Entries) -> None:
    """Tell a peer of entries, and take over what it has. Raises OSError where it does not answer."""
    connection = HTTPConnection(peer, PORT, timeout=PATIENCE)
    try:
        connection.request("POST", "/merge", json.dumps(entries))
        store.merge(parsed(connection.getresponse().read()))
    except HTTPException as error:
        raise ConnectionError from error
    finally:
        connection.close()


def parsed(body: bytes) -> Entries:
    """Entries as they are sent."""
    return {key: (number, writer, value) for key, (number, writer, value) in json.loads(body).items()}


def spread(entries: Entries) -> None:
    """Have a majority know these entries, and know what a majority has. Raises NoMajority."""
    reached = 1
    for told in as_completed([pool.submit(tell, peer, entries) for peer in PEERS]):
        reached += told.exception() is None
        if reached >= MAJORITY:
            store.merge(entries)
            return
    raise NoMajority(f"{NAME} reaches {reached} of {len(PEERS) + 1} nodes")


def catch_up() -> None:
    """Tell every peer what there is, and hear what it has, for ever."""
    while True:
        for peer in PEERS:
            try:
                tell(peer, store.merge({}))
            except OSError:
                continue
        time.sleep(INTERVAL)


class Node(BaseHTTPRequestHandler):
    """`GET /KEY`, `PUT /KEY`, `GET /local/KEY` (what this node has, without asking others); for peers `POST /merge`."""

    def do_GET(self) -> None:
        """The value, 404 where there is none, or 503 without a majority."""
        if not self.path.startswith("/local/"):
            try:
                spread({})
            except NoMajority as error:
                return self.answer(503, str(error))
        entry = store.merge({}).get(self.path.rpartition("/")[2])
        return self.answer(200, entry[2]) if entry else self.answer(404, None)

    def do_PUT(self) -> None:
        """200 when a majority has it, or 503."""
        key, value = self.path[1:], self.body().decode()
        try:
            spread({})
            number, *_ = store.merge({}).get(key, (0, "", ""))
            spread({key: (number + 1, NAME, value)})
        except NoMajority as error:
            return self.answer(503, str(error))
        return self.answer(200, value)

    def do_POST(self) -> None:
        """A peer tells what it has."""
        self.answer(200, store.merge(parsed(self.body())))

    def body(self) -> bytes:
        """What was sent."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, code: int, content: object) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


threading.Thread(target=catch_up, daemon=True).start()
ThreadingHTTPServer(("", PORT), Node).serve_forever()
