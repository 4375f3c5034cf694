"""A jq process that is reused from query to query, killed when a query takes too long, and started again.

The process is started by the first query (about 50 ms), and ends when this one closes it or dies: its input ends.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

__all__ = ["ExtractionCrash", "ExtractionError", "ExtractionTimeout", "JqChannel"]

MAX_ANSWER = 64 * 2**20
"""The largest answer that is accepted, in bytes."""

_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")


class ExtractionError(ValueError):
    """A query that yields nothing usable. Subclasses tell why."""


class ExtractionTimeout(ExtractionError):
    """The query took longer than allowed and was killed."""


class ExtractionCrash(ExtractionError):
    """The jq process died during the query, or its answer was too large."""


class JqChannel:
    """Requests to one child process, one at a time; safe to use from several threads, and after a fork."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the child, None while there is none."""
        return self._process.pid if self._process is not None else None

    def ask(self, query: str, text: str) -> dict[str, Any]:
        """The child's answer, see `jq_child`. Raises `ExtractionTimeout` or `ExtractionCrash`; the next call works."""
        request = json.dumps({"query": query, "text": text, "seconds": self._seconds}).encode()
        with self._lock:
            process = self._started()
            try:
                return self._exchange(process, request)
            except BaseException:
                self._end()
                raise

    def close(self) -> None:
        """End the child. The next `ask` would start another one."""
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self._end()
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        command = [sys.executable, "-I", "-X", "utf8", str(Path(__file__).with_name("jq_child.py")), *sys.path]
        self._process = subprocess.Popen(
            command, bufsize=0, env=environment, cwd=os.sep,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _end_process, self._process, self._owner)
        return self._process

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._finalizer = None

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + self._seconds
        try:
            _write_all(process.stdin.fileno(), struct.pack(">I", len(request)) + request)
        except BrokenPipeError:
            raise ExtractionCrash("the jq process has died") from None
        source = process.stdout.fileno()
        size = struct.unpack(">I", self._read(source, 4, deadline))[0]
        if size > MAX_ANSWER:
            raise ExtractionCrash(f"the result of the query is larger than {MAX_ANSWER >> 20} MiB")
        answer = json.loads(self._read(source, size, deadline))
        assert isinstance(answer, dict)
        return answer

    def _read(self, source: int, size: int, deadline: float) -> bytes:
        pieces: list[bytes] = []
        while size:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([source], [], [], remaining)[0]:
                raise ExtractionTimeout(f"the query took longer than {self._seconds:g}s and was stopped")
            piece = os.read(source, min(size, 1 << 20))
            if not piece:
                raise ExtractionCrash("the jq process died during the query; it may have needed too much memory")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _end_process(process: subprocess.Popen[bytes], owner: int) -> None:
    """Close the pipes, and kill and reap the child, unless it belongs to the process we were forked from."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if owner == os.getpid():
        process.kill()
        process.wait()
