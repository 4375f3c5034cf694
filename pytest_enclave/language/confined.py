"""Work in a process of its own, which may break, hang or eat memory without harm.

The interpreter runs inside the test process: what goes wrong in it goes wrong there. So whatever might is done in a
fork, whose result comes back as a pickle. It has limits of memory and time, and is killed where it does not keep them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import IO, Any, NoReturn, TypeVar

T = TypeVar("T")

GRACE = 1.0
"""Seconds after the deadline at which work that did not stop by itself is killed."""

_POLL = 0.05
_LOOK = 0.5
_SIZE = struct.Struct("!Q")
_OWN = "/proc/self/statm"
_CHUNK = 1 << 20
_OUT_OF_STACK = b"overflowed its stack"


class Unanswered(Exception):
    """The work came to no end. `reason` is `time`, `memory`, `depth` (of calls or values) or `cancelled`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def apart(work: Callable[[], T], *, memory: int, deadline: float | None, cancelled: Callable[[], bool]) -> T:
    """What `work` gives or raises, done in a fork with `memory` more bytes than this process has.

    `deadline` is one of `time.monotonic`; `cancelled` is asked in this process, and may raise.
    Raises Unanswered where the fork ends otherwise than by an answer.
    """
    with tempfile.TemporaryFile() as complaints:
        reading, writing = os.pipe()
        child = 0
        try:
            with warnings.catch_warnings():
                # What other threads have locked stays locked in the fork; the interpreter needs none of it.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                _be_child(work, writing, complaints, memory, deadline)
            os.close(writing)
            answer = _answer(_Child(child, memory), reading, deadline, cancelled)
        finally:
            os.close(reading)
            status = _end(child)
        complaints.seek(0)
        result: T = _result(answer, status, complaints.read())
        return result


def resident() -> int:
    """How much memory this process has, in bytes; where the system does not tell, how much it had at most."""
    try:
        with open(_OWN, "rb", buffering=0) as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class _Child:
    """The fork, as this process sees it."""

    def __init__(self, pid: int, memory: int) -> None:
        self._pid = pid
        self._limit = None if os.path.exists(_OWN) else resident() + memory
        self._looked = time.monotonic()

    def has_ended(self) -> bool:
        """Whether it has come to an end, of whatever kind; its status is left."""
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def has_too_much(self) -> bool:
        """Whether it has more memory than it may, looked up where the system does not see to that."""
        if self._limit is None or time.monotonic() < self._looked + _LOOK:
            return False
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(self._pid)], capture_output=True, check=False)
        self._looked = time.monotonic()
        return int(shown.stdout.strip() or 0) * 1024 > self._limit


def _end(child: int) -> int:
    """Kill it, if it was made at all, and give its status: one that has ended already keeps its own."""
    if not child:
        return 0
    try:
        os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    except (ProcessLookupError, ChildProcessError):  # someone else has waited for it
        return 0


def _answer(child: _Child, reading: int, deadline: float | None, cancelled: Callable[[], bool]) -> bytes:
    """What the fork writes; nothing if it ends before it has written all of it.

    The end of the pipe does not tell: another fork, of another thread, may have it open.
    """
    parts: list[bytes] = []
    missing = _SIZE.size
    while True:
        if cancelled():
            raise Unanswered("cancelled")
        if deadline is not None and time.monotonic() > deadline + GRACE:
            raise Unanswered("time")
        if child.has_too_much():
            raise Unanswered("memory")
        ended = child.has_ended()
        if select.select([reading], [], [], 0 if ended else _POLL)[0]:
            part = os.read(reading, min(missing, _CHUNK))
            parts.append(part)
            missing -= len(part)
            if not part:
                return b""
            if not missing and len(parts) > 1:
                return b"".join(parts[1:])
            if not missing:
                missing = _SIZE.unpack(part)[0]
        elif ended:
            return b""


def _result(answer: bytes, status: int, complaints: bytes) -> Any:
    if answer:
        value, error = pickle.loads(answer)
        if error is not None:
            raise error
        return value
    killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if killed_by == signal.SIGALRM:
        raise Unanswered("time")
    deep = killed_by in (signal.SIGSEGV, signal.SIGBUS) or _OUT_OF_STACK in complaints
    raise Unanswered("depth" if deep else "memory")


def _be_child(
    work: Callable[[], Any], writing: int, complaints: IO[bytes], memory: int, deadline: float | None
) -> NoReturn:
    try:
        _limit(complaints, memory, deadline)
        answer = pickle.dumps(_outcome(work))
        answer = _SIZE.pack(len(answer)) + answer
    except BaseException:
        answer = b""
    finally:
        with contextlib.suppress(BaseException):
            while answer:
                answer = answer[os.write(writing, answer[:_CHUNK]) :]
        os._exit(0)


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except MemoryError:
        return None, Unanswered("memory")
    except BaseException as error:
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return None, error


def _limit(complaints: IO[bytes], memory: int, deadline: float | None) -> None:
    """Interrupts are for the parent; the alarm is for the case that there is none any more."""
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if deadline is not None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0) + 2 * GRACE)
    os.environ["RUST_BACKTRACE"] = (
        "0"  # making one needs memory, and the interpreter stops for ever where there is none
    )
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(complaints.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError), open(_OWN, "rb") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    gc.freeze()
