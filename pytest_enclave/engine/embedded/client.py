"""A client's connection to an enclave's init: requests with their answers, and the states that init tells of."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.errors import EngineError

Reply = tuple[dict[str, Any], list[int]]

ANSWER = 120.0
"""Seconds after which nobody answers any more: what takes longest is copying large files."""


class Client:
    """One lease on an enclave. Safe to use from several threads; a thread of its own listens."""

    def __init__(self, connection: socket.socket, enclave: str) -> None:
        self._enclave = enclave
        self._socket = connection
        self._channel = Channel(connection)
        self._sending = threading.Lock()
        self._hearing = threading.Lock()
        self._changed = threading.Condition()
        self._pending: dict[int, Future[Reply]] = {}
        self._states: dict[str, Mapping[str, Any]] = {}
        self._shape: Mapping[str, Any] = {}
        self._numbers = 0
        self._ended: str | None = None
        self._ends: int | None = None
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._listen, name=f"enclave {enclave}", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout: float) -> None:
        """Wait until the enclave is there (seconds). Raises EngineError if it cannot be made."""
        try:
            self._ready.result(timeout)
        except FutureTimeout:
            raise EngineError(f"enclave {self._enclave} was not made within {timeout:g} s") from None

    def submit(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> tuple[int, Future[Reply]]:
        """Send a request: its number, and its answer to come. Raises EngineError if the enclave has ended."""
        future: Future[Reply] = Future()
        with self._sending:
            self._numbers += 1
            number = self._numbers
            self._pending[number] = future
            if self._ended is not None:
                self._pending.pop(number, None)
                raise self._gone()
            try:
                self._channel.send({"id": number, **request}, descriptors)
            except OSError:
                self._pending.pop(number, None)
                raise self._gone() from None
        return number, future

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises EngineError if the enclave ends, or does not answer."""
        answer, passed = self.reply(request, descriptors)
        for descriptor in passed:
            os.close(descriptor)
        return answer

    def reply(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> Reply:
        """The same, with the descriptors that come with the answer."""
        return self.awaited(self.submit(request, descriptors)[1])

    def awaited(self, answer: Future[Reply]) -> Reply:
        """An answer to come. Raises EngineError if the enclave ends, or does not answer."""
        try:
            return answer.result(ANSWER)
        except FutureTimeout:
            raise EngineError(
                f"enclave {self._enclave} does not answer: its processes hang, or are stopped, since {ANSWER:g} s"
            ) from None

    @property
    def was_ready(self) -> bool:
        """Whether the enclave has been there."""
        return self._ready.done() and self._ready.exception() is None

    @property
    def ended(self) -> bool:
        """Whether the enclave has ended, or this lease on it."""
        return self._ended is not None

    def states(self) -> Mapping[str, Mapping[str, Any]] | None:
        """What init has told of every service, where all is still as it told; None where it has to be asked.

        Nothing has come from it that was not heard yet, and the kernel says that no service has ended since.
        """
        with self._hearing:
            if self._ended is not None or self._ends is None:
                return None
            news = select.poll()
            # In this order: an end that init tells of between the two looks is found by one of them.
            for descriptor in (self._ends, self._channel.fileno()):
                news.register(descriptor, select.POLLIN)
            return None if news.poll(0) else dict(self._states)

    def state(self, service: str) -> Mapping[str, Any] | None:
        """What init last told of a service."""
        return self._states.get(service)

    @property
    def shape(self) -> Mapping[str, Any]:
        """What init last told of how packets travel: `connections` and `seed`, an `error`, or nothing."""
        return self._shape

    def wait_state(self, until: Callable[[], bool], timeout: float) -> None:
        """Wait until that is so, at most for the timeout (seconds). Raises EngineError if the enclave ends."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not until() and (left := deadline - time.monotonic()) > 0:
                if self._ended is not None:
                    raise self._gone()
                self._changed.wait(left)

    def settle(self) -> None:
        """Hear all that init has told by now. Raises EngineError if the enclave has ended."""
        self.ask({"do": "observe"})

    def close(self) -> None:
        """Give up the lease."""
        self._end("it is closed")
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._channel.close()
        with self._hearing:
            if self._ends is not None:
                os.close(self._ends)
                self._ends = None

    def _gone(self) -> EngineError:
        return EngineError(f"enclave {self._enclave} has ended: {self._ended or 'nothing answers there'}")

    def _listen(self) -> None:
        reason = "its processes are gone"
        news = select.poll()
        news.register(self._channel.fileno(), select.POLLIN)
        try:
            while news.poll():
                # What has come and what is known of it change together.
                with self._hearing:
                    for message, descriptors in self._channel.arrived():
                        self._hear(message, descriptors)
        except EOFError:
            pass
        except OSError as error:
            reason = str(error)
        finally:
            self._end(reason)

    def _hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message.get("event") == "state":
            with self._changed:
                self._states[message["service"]] = message
                self._changed.notify_all()
        elif message.get("event") == "shape":
            self._shape = message
        elif message.get("event") == "ready":
            self._ends = next(iter(descriptors), None)
            self._ready.set_result(None)
        elif message.get("event") == "failed":
            self._end(message["error"])
        elif message.get("event") == "ended":
            self._end(message["reason"])
        elif (future := self._pending.pop(message["id"], None)) is not None:
            if "lost" in message:
                message["error"] = "Too many open files in this process"
            future.set_result((message, descriptors))

    def _end(self, reason: str) -> None:
        with self._sending:
            self._ended = self._ended or reason
            pending = [*self._pending.values()]
            self._pending.clear()
        for future in pending:
            future.set_exception(self._gone())
        if not self._ready.done():
            self._ready.set_exception(EngineError(f"cannot make enclave {self._enclave}: {reason}"))
        with self._changed:
            self._changed.notify_all()
