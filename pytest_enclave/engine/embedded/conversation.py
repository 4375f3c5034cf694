"""A command in a service with its input and output, from the client's side: two pipes, whose other ends go to init."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

from pytest_enclave.engine.embedded.client import Client, Reply
from pytest_enclave.engine.embedded.execution import LARGEST_PIPE, POLL
from pytest_enclave.engine.protocol import NotReached
from pytest_enclave.errors import EngineError


class EmbeddedConversation:
    """A command (`Conversation`) in a service. Raises EngineError."""

    def __init__(self, client: Client, service: str, command: Sequence[str]) -> None:
        self._client = client
        source, self._input = os.pipe()
        output, sink = os.pipe()
        self._output, theirs = os.pipe()
        try:
            request = {"do": "exec", "name": service, "argv": list(command)}
            self._number, self._answer = client.submit(request, [sink, source])
        except BaseException:
            for descriptor in (self._input, output, self._output, theirs):
                os.close(descriptor)
            raise
        finally:
            os.close(source)
            os.close(sink)
        self._ended_input = self._closed = False
        self._carrier = threading.Thread(
            target=_carry, args=(output, theirs, self._answer), name=f"command in {service}", daemon=True
        )
        self._carrier.start()

    def fileno(self) -> int:
        """A descriptor to read (`Conversation.fileno`)."""
        return self._output

    def input(self) -> int:
        """A descriptor to write (`Conversation.input`)."""
        return self._input

    def end_input(self) -> None:
        """There is no more to be read."""
        if not self._ended_input:
            self._ended_input = True
            os.close(self._input)

    def wait(self) -> int:
        """The command's exit code, when it has ended. Raises NotReached where it could not begin, and EngineError."""
        reply = self._answer.result()[0]
        if "error" in reply:
            absent = reply.get("kind") == "absent"
            raise NotReached("the service does not run" if absent else f"the command cannot be run: {reply['error']}")
        return int(reply["code"])

    def close(self) -> None:
        """Let go of it: the command and its jobs are killed, if it still runs. May be called again."""
        if self._closed:
            return
        self._closed = True
        if not self._answer.done():
            with suppress(EngineError):
                self._client.ask({"do": "cancel", "command": self._number})
        self.end_input()
        os.close(self._output)
        self._carrier.join()


def _carry(output: int, users: int, answer: Future[Reply]) -> None:
    """Carry what the command writes to its user until it has ended: what it has started may hold its output open."""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    try:
        with suppress(BrokenPipeError):
            while True:
                ended = answer.done()
                if poll.poll(0 if ended else POLL * 1000):
                    chunk = memoryview(os.read(output, LARGEST_PIPE if ended else 1 << 16))
                    if not chunk:
                        break
                    while chunk:
                        chunk = chunk[os.write(users, chunk) :]
                if ended:
                    break
    finally:
        os.close(output)
        os.close(users)
