"""What each container of an enclave is doing, as its events tell.

Values only change here by `apply` (an event) or `put` (what the engine said when it was asked). Whoever waits for a
change is woken at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.protocol import Exit
from pytest_enclave.plan.facts import ServiceFact, Status

EVENTS = ("start", "die", "oom", "pause", "unpause", "destroy")
"""The events that change a container's state."""

KILLED = 128 + 9
"""The exit code of a process that was killed."""


class ContainerState(msgspec.Struct, frozen=True):
    """A container: its image's digest and its address; what its process does, and how it ended.

    `starts` counts its starts, so that one can wait for the next; `memory_ran_out` is since the last of them.
    One that is `gone` was removed by somebody else.
    """

    image: str
    ip_address: str
    status: Status = Status.STOPPED
    exit: Exit | None = None
    starts: int = 0
    memory_ran_out: bool = False
    gone: bool = False


class States:
    """The states of containers by their ID. Containers never made known by `put` are ignored.

    `notes` tell which of them are meant to be stopped.
    """

    def __init__(self, notes: Notes) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, ContainerState] = {}
        self._forgotten: set[str] = set()
        self._notes = notes

    def put(self, container: str, state: ContainerState) -> None:
        """Make a container known, or say what is true of it now."""
        with self._changed:
            self._states[container] = state
            self._changed.notify_all()

    def forget(self, container: str) -> None:
        """The container was removed, as it should be."""
        with self._changed:
            self._states.pop(container, None)
            self._forgotten.add(container)
            self._changed.notify_all()

    def add(self, container: str, state: ContainerState) -> bool:
        """Make a container known that somebody else has made; not one that is or was known here: whether it is new."""
        with self._changed:
            if container in self._states or container in self._forgotten:
                return False
            self._states[container] = state
            self._changed.notify_all()
            return True

    def get(self, container: str) -> ContainerState | None:
        """The container's state, None if it is not known."""
        return self._states.get(container)

    def known(self) -> tuple[str, ...]:
        """All containers."""
        with self._changed:
            return tuple(self._states)

    def expect_stop(self, container: str) -> None:
        """Its next end is wanted: it will be stopped then, rather than exited."""
        self._notes.expect_stop(container)

    def expect_start(self, container: str) -> None:
        """It is about to be started again: its next end is not wanted."""
        self._notes.expect_start(container)

    def apply(self, event: Mapping[str, Any]) -> bool:
        """An event, as the engine has it; whether its container is or was known."""
        container = event["Actor"]["ID"]
        with self._changed:
            state = self._states.get(container)
            if state is None:
                return container in self._forgotten
            self._states[container] = self._after(container, state, event)
            self._changed.notify_all()
            return True

    def wait(
        self, container: str, until: Callable[[ContainerState | None], bool], timeout: float
    ) -> ContainerState | None:
        """The state once it is as wanted, or else at the end of the timeout (seconds)."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not until(state := self._states.get(container)):
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._changed.wait(remaining):
                    return self._states.get(container)
            return state

    def wake(self) -> None:
        """Let all who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def ended(self, container: str, state: ContainerState, code: int, memory_ran_out: bool) -> ContainerState:
        """The state after its process ended."""
        status = Status.STOPPED if self._notes.is_stopping(container) else Status.EXITED
        return replace(state, status=status, exit=Exit(code, memory_ran_out), memory_ran_out=memory_ran_out)

    def _after(self, container: str, state: ContainerState, event: Mapping[str, Any]) -> ContainerState:
        action = event["Action"]
        if action == "start":
            self._notes.started(container)
            started = replace(state, status=Status.RUNNING, exit=None, memory_ran_out=False)
            return replace(started, starts=state.starts + 1)
        if action == "die":
            code = int(event["Actor"]["Attributes"].get("exitCode", 0))
            return self.ended(container, state, code, state.memory_ran_out)
        if action == "oom":
            # On some kernels this comes after the end that it is the reason of.
            late = replace(state.exit, out_of_memory=True) if state.exit else None
            return replace(state, memory_ran_out=True, exit=late)
        if action in ("pause", "unpause"):
            return replace(state, status=Status.PAUSED if action == "pause" else Status.RUNNING)
        if action == "destroy":
            return removed(state)
        return state


def fact(state: ContainerState) -> ServiceFact:
    """The state as the other rooms have it."""
    code = state.exit.code if state.exit else None
    return ServiceFact(state.status, state.image, state.ip_address, code)


def removed(state: ContainerState) -> ContainerState:
    """The state of a container that somebody else removed: whatever ran in it was killed."""
    return replace(state, status=Status.EXITED, exit=state.exit or Exit(KILLED), gone=True)
