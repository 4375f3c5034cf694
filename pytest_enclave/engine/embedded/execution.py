"""Commands in services, from the client's side: their output, their end, their deadline."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress

from pytest_enclave.engine.embedded.client import Client, Reply
from pytest_enclave.engine.protocol import DeadlineExceeded, ExecResult, NotReached
from pytest_enclave.errors import EngineError

POLL = 0.05
"""Seconds between two looks whether a command has ended whose output goes on: something it started holds it open."""

LARGEST_PIPE = 1 << 20
"""Bytes, as the kernel lets pipes be for plain users."""


def run_command(client: Client, service: str, command: Sequence[str], deadline: float | None) -> ExecResult:
    """Run a command; `deadline` in monotonic seconds. Raises DeadlineExceeded, NotReached, EngineError."""
    begun = time.monotonic()
    reader, writer = os.pipe()
    try:
        try:
            number, answer = client.submit({"do": "exec", "name": service, "argv": list(command)}, [writer])
        finally:
            os.close(writer)
        try:
            output = _read(reader, answer, deadline)
            reply = answer.result(_left(deadline))[0]
        except BaseException as error:
            with suppress(EngineError):
                client.ask({"do": "cancel", "command": number})
            if not isinstance(error, FutureTimeout):
                raise
            took = max(0.0, (deadline or begun) - begun)
            raise DeadlineExceeded(f"the command took longer than {took:.3g} s") from None
    finally:
        os.close(reader)
    if "error" in reply:
        if reply.get("kind") == "absent":
            raise NotReached("the service does not run")
        raise NotReached(f"the command cannot be run: {reply['error']}")
    return ExecResult(reply["code"], output.decode(errors="replace"))


def _read(reader: int, answer: Future[Reply], deadline: float | None) -> bytes:
    """All that the command writes, until its output is closed, it has ended, or the deadline."""
    chunks: list[bytes] = []
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        ended = answer.done()
        patience = 0.0 if ended else POLL if deadline is None else min(POLL, max(0.0, deadline - time.monotonic()))
        if poll.poll(patience * 1000):
            # What it has started may go on writing: after its end, what the pipe can hold is all that is its own.
            if not (chunk := os.read(reader, LARGEST_PIPE if ended else 1 << 18)):
                break
            chunks.append(chunk)
        if ended or (deadline is not None and time.monotonic() >= deadline and not answer.done()):
            break
    return b"".join(chunks)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
