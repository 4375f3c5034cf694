"""Following the engine's events, so that a service's end is known at once and knowing costs no call.

While the stream is lost, whoever asks for a state gets it from the engine itself; a new stream is opened meanwhile,
and all states are asked for once when it is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.states import EVENTS, ContainerState, States, removed
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import Exit
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Status

Started = Callable[[str, Mapping[str, str]], None]

RECONNECT = 0.2
"""Seconds between two tries to follow again."""

POLL = 0.2
"""Seconds between two questions while nothing is followed."""


class Follower:
    """Keeps the states of an enclave's containers, in a thread of its own, which `follow` starts."""

    def __init__(self, client: Client, enclave: str, notes: Notes) -> None:
        self.states = States(notes)
        self._enclave = enclave
        self._client = client
        self._filter = {**labels.of_enclave(enclave), "type": ["container"], "event": list(EVENTS)}
        self._following = threading.Event()
        self._tried = threading.Event()
        self._closed = threading.Event()
        self._stream: Any = None
        self._thread: threading.Thread | None = None

    def follow(self, started: Started, look: Callable[[], None], any_started: Started, look_first: bool) -> None:
        """Begin. `started` is told of containers that somebody else makes and starts: the ID, and the labels among
        other things; `any_started` of each start of any.

        `look` looks for those that were started while nothing was followed; with `look_first` there may be some from
        the beginning. All may raise EngineError.
        """
        self._thread = threading.Thread(
            target=self._run,
            args=(started, look, any_started, look_first),
            name=f"events of {self._enclave}",
            daemon=True,
        )
        self._thread.start()

    def follows(self, timeout: float) -> bool:
        """Wait until following has begun, or has failed (seconds); whether it has begun, and all was looked at."""
        self._tried.wait(timeout)
        return self._following.is_set()

    def state(self, container: str) -> ContainerState | None:
        """What the container does; None if it is not known. Costs no call while events are followed."""
        if not self._following.is_set():
            self.refresh(container)
        return self.states.get(container)

    def wait(
        self, container: str, until: Callable[[ContainerState | None], bool], timeout: float
    ) -> ContainerState | None:
        """The state once it is as wanted, or else at the end of the timeout (seconds), or of the enclave."""
        remaining = timeout
        while not self._following.is_set() and not self._closed.is_set() and remaining > 0:
            if until(state := self.state(container)):
                return state
            self._following.wait(min(POLL, remaining))
            remaining -= POLL
        return self.states.wait(container, lambda state: until(state) or self._closed.is_set(), max(0.0, remaining))

    def refresh(self, container: str) -> None:
        """Ask the engine what the container does. Raises EngineError where the engine does not answer."""
        known = self.states.get(container)
        if known is None or known.gone:
            return
        try:
            with translate("cannot inspect a service's container"):
                reported = self._client.inspect_container(container)["State"]
        except Refused as refused:
            if refused.status != 404:
                raise
            self.states.put(container, removed(known))
            return
        self.states.put(container, self._as_reported(container, known, reported))

    def closing(self, timeout: float) -> bool:
        """Let time pass (seconds), but not beyond the end of the enclave; whether that has come."""
        return self._closed.wait(timeout)

    def close(self) -> None:
        """End the thread. States stay as they are."""
        self._closed.set()
        self._hang_up()
        self.states.wake()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _as_reported(self, container: str, known: ContainerState, reported: dict[str, Any]) -> ContainerState:
        if reported["Paused"] or reported["Running"]:
            status = Status.PAUSED if reported["Paused"] else Status.RUNNING
            begun = known.starts + (known.status in (Status.STOPPED, Status.EXITED))
            return ContainerState(known.image, known.ip_address, status, starts=begun)
        if reported["Status"] == "created":
            return known
        ran_out = bool(reported["OOMKilled"]) or known.memory_ran_out
        if known.exit == Exit(reported["ExitCode"], ran_out):
            return known
        return self.states.ended(container, known, reported["ExitCode"], ran_out)

    def _run(self, started: Started, look: Callable[[], None], any_started: Started, look_first: bool) -> None:
        while not self._closed.is_set():
            try:
                with suppress(EngineError):
                    self._follow(started, look, any_started, look_first)
            finally:
                # Whatever has ended it: what is remembered is not followed any more.
                self._following.clear()
                self._tried.set()
            self._closed.wait(RECONNECT)

    def _follow(self, started: Started, look: Callable[[], None], any_started: Started, look_first: bool) -> None:
        with translate("cannot follow the engine's events"), self._client.events(self._filter) as stream:
            self._stream = stream
            if self._closed.is_set():
                self._hang_up()
                return
            if (known := self.states.known()) or look_first:
                for container in known:
                    self.refresh(container)
                look()
            self._following.set()
            self._tried.set()
            self.states.wake()
            # Of an end that was told of a moment ago, the engine's lists do not know yet.
            for container in self.states.known():
                if container not in known and not self._closed.is_set():
                    self.refresh(container)
            if self._closed.is_set():
                return
            for event in stream:
                is_known = self.states.apply(event)
                if event["Action"] != "start":
                    continue
                for told in (any_started,) if is_known else (started, any_started):
                    with suppress(EngineError):
                        told(event["Actor"]["ID"], event["Actor"]["Attributes"])

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except Exception:
                # The stream may end by itself at the same moment; the SDK then stumbles over what is left of it.
                return
