"""A double of a Docker engine: a socket in front of the real one, which fails a single call in a chosen way."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

CHUNK = 1 << 16

_IDENTIFIERS = re.compile(
    r"/(containers|networks|volumes|images|exec)/(?!json$|create$|prune$|load$)([^?]+?)(?=/[a-z]+$|$)"
)
_VERSION = re.compile(r"^/v1\.\d+")


class Fault(Enum):
    """How a call fails."""

    REFUSED_404 = "404"
    REFUSED_409 = "409"
    REFUSED_500 = "500"
    SILENT = "silent"
    """It is done, and no answer ever comes."""
    DROPPED = "dropped"
    """The connection ends, and nothing is done."""
    LOST = "lost"
    """It is done, and the connection ends before the answer."""
    CUT = "cut"
    """It is done, and the connection ends in the middle of the answer."""


SAYS = {Fault.REFUSED_404: "no such thing, says the double", Fault.REFUSED_409: "a conflict, says the double"}
SAYS[Fault.REFUSED_500] = "out of order, says the double"


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """The so-and-so-many-th call of this kind: method, and path without what only this enclave has."""

    method: str
    path: str
    number: int

    def __str__(self) -> str:
        return f"{self.method} {self.path} #{self.number}"


@dataclass(frozen=True, slots=True)
class _Request:
    head: bytes
    body: bytes

    @property
    def line(self) -> list[str]:
        return self.head.split(b"\r\n", 1)[0].decode().split()


@dataclass
class FaultyEngine:
    """Passes calls on to the engine at `target`, all but one, once, and remembers them.

    Only calls of this process count.
    """

    path: Path
    target: str
    call: Call | None = None
    fault: Fault | None = None
    calls: list[Call] = field(default_factory=list)
    met: bool = False
    """Whether that call came."""

    def __post_init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen(64)
        threading.Thread(target=self._accept, name=f"double {self.path.name}", daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"unix://{self.path}"

    def arm(self, call: Call | None, fault: Fault | None) -> None:
        """Fail that call, counted from now on, or none."""
        with self._lock:
            self._counts.clear()
            self.calls.clear()
            self.call, self.fault, self.met = call, fault, False

    def close(self) -> None:
        """End it, and all connections."""
        self._closed.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        pid, _, _ = struct.unpack("3i", near.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        with near, suppress(OSError):
            request = _read_request(near)
            if request is None:
                return
            fault = self._judge(request) if pid == os.getpid() else None
            if fault in SAYS:
                near.sendall(_refusal(fault))
            elif fault is not Fault.DROPPED:
                with socket.socket(socket.AF_UNIX) as far:
                    far.connect(self.target)
                    far.sendall(_single(request.head) + request.body)
                    self._answer(near, far, fault)

    def _judge(self, request: _Request) -> Fault | None:
        method, target = request.line[:2]
        path = template(target)
        with self._lock:
            self._counts[method, path] += 1
            call = Call(method, path, self._counts[method, path])
            self.calls.append(call)
            if call != self.call:
                return None
            self.met = True
            return self.fault

    def _answer(self, near: socket.socket, far: socket.socket, fault: Fault | None) -> None:
        """Copy in both directions until either ends, or as the fault has it."""
        while not self._closed.is_set():
            ready, _, _ = select.select([near, far], [], [], 0.5)
            if near in ready:
                if not (data := near.recv(CHUNK)):
                    return
                far.sendall(data)
            if far in ready:
                data = far.recv(CHUNK)
                if fault is Fault.LOST or not data:
                    return
                if fault is Fault.CUT:
                    near.sendall(data[: _middle(data)])
                    return
                if fault is not Fault.SILENT:
                    near.sendall(data)
                elif not self._wait_for_end(near):
                    return

    def _wait_for_end(self, near: socket.socket) -> bool:
        """Wait until whoever asked goes away."""
        while not self._closed.is_set():
            if select.select([near], [], [], 0.5)[0] and not near.recv(CHUNK):
                return False
        return False


def template(target: str) -> str:
    """A path without version, query, names and identifiers."""
    path = _VERSION.sub("", target.partition("?")[0])
    return _IDENTIFIERS.sub(r"/\1/*", path)


def _read_request(near: socket.socket) -> _Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := near.recv(CHUNK)):
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    head += b"\r\n\r\n"
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    chunked = re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head)

    def complete() -> bool:
        return body.endswith(b"0\r\n\r\n") if chunked else len(body) >= int(length.group(1) if length else 0)

    while not complete():
        if not (piece := near.recv(CHUNK)):
            return None
        body += piece
    return _Request(head, body)


def _single(head: bytes) -> bytes:
    """The head of a request after whose answer the engine closes the connection."""
    return re.sub(rb"(?i)\r\nconnection: *[^\r]*", b"", head).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def _refusal(fault: Fault) -> bytes:
    body = json.dumps({"message": SAYS[fault]}).encode()
    reason = {"404": "Not Found", "409": "Conflict", "500": "Internal Server Error"}[fault.value]
    head = f"HTTP/1.1 {fault.value} {reason}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _middle(answer: bytes) -> int:
    """How many bytes of an answer are sent: half of its body, or of its head where it has no body."""
    head = answer.find(b"\r\n\r\n") + 4
    return head + (len(answer) - head) // 2 if len(answer) > head + 1 else head // 2
