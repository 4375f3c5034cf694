"""What can be done to a live service, each until the engine's events tell that it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.docker.events import Follower
from pytest_enclave.engine.docker.shaping import Shaping
from pytest_enclave.engine.docker.signals import heeds_stop
from pytest_enclave.engine.docker.starting import CATCH_UP
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import ServiceError
from pytest_enclave.plan.facts import Status

if TYPE_CHECKING:
    from docker import APIClient

GRACE = 1
"""Seconds between asking a service to stop (SIGTERM, or the image's own stop signal) and killing it."""

PATIENCE = 10
"""Seconds between the two where data matters: as long as the engine itself waits."""


class Lifecycle(msgspec.Struct, frozen=True):
    """Acts on the containers of one enclave. What a service already is, it stays."""

    client: APIClient
    follower: Follower
    shaping: Shaping

    def act(self, name: str, container: str, action: Action) -> None:
        """Do it. Raises ServiceError where the service's state does not allow it, EngineError for others."""
        state = self._state(name, container)
        deeds: Mapping[Action, Callable[[str, ContainerState], None]] = {
            Action.START: partial(self._start, name),
            Action.STOP: self._stop,
            Action.KILL: self._kill,
            Action.PAUSE: self._pause,
            Action.RESUME: self._resume,
        }
        if action in (Action.PAUSE, Action.RESUME) and not _lives(state):
            raise ServiceError(f'service "{name}" does not run', service=name)
        with _refusals(name, action.value), translate(f'cannot {action.value} service "{name}"'):
            deeds[action](container, state)

    def stop_cleanly(self, name: str, container: str) -> None:
        """Stop a service, and leave it the time to write down what it has; one that never will is not waited for.

        Raises ServiceError, EngineError.
        """
        state = self._state(name, container)
        with _refusals(name, "stop"), translate(f'cannot stop service "{name}"'):
            inspected = self.client.inspect_container(container)
            self._stop(container, state, PATIENCE if heeds_stop(container, inspected) else 0)

    def remove(self, name: str, container: str) -> None:
        """Remove a service's container, its log and its unnamed volumes; none being there is no error."""
        try:
            with translate(f'cannot remove service "{name}"'):
                self.client.remove_container(container, force=True, v=True)
        except Refused as refused:
            if refused.status != 404 and "already in progress" not in refused.explanation:
                raise
        self.follower.states.forget(container)

    def _state(self, name: str, container: str) -> ContainerState:
        state = self.follower.state(container)
        if state is None or state.gone:
            raise ServiceError(f'service "{name}" was removed by somebody else', service=name)
        return state

    def _start(self, name: str, container: str, state: ContainerState) -> None:
        if _lives(state):
            return
        self.follower.states.expect_start(container)
        with self.shaping.starting(name, state.ip_address) as started:
            self.client.start(container)
            started(container)
        self._catch_up(container, lambda now: now.starts > state.starts)

    def _stop(self, container: str, state: ContainerState, patience: int = GRACE) -> None:
        self.follower.states.expect_stop(container)
        if not _lives(state):
            self.follower.states.put(container, replace(state, status=Status.STOPPED))
            return
        if state.status is Status.PAUSED:
            # What is frozen does not get the signal.
            self.client.unpause(container)
        self.client.stop(container, timeout=patience)
        self._catch_up(container, lambda now: now.exit is not None)

    def _kill(self, container: str, state: ContainerState) -> None:
        if not _lives(state):
            return
        if state.status is Status.PAUSED:
            self.client.unpause(container)
        self.client.kill(container)
        self._catch_up(container, lambda now: now.exit is not None)

    def _pause(self, container: str, state: ContainerState) -> None:
        if state.status is Status.PAUSED:
            return
        self.client.pause(container)
        self._catch_up(container, lambda now: now.status is not Status.RUNNING)

    def _resume(self, container: str, state: ContainerState) -> None:
        if state.status is Status.RUNNING:
            return
        self.client.unpause(container)
        self._catch_up(container, lambda now: now.status is not Status.PAUSED)

    def _catch_up(self, container: str, done: Callable[[ContainerState], bool]) -> None:
        """Wait until events tell that it is done; if they do not, ask."""
        state = self.follower.wait(container, lambda now: now is None or done(now), CATCH_UP)
        if state is not None and not done(state):
            self.follower.refresh(container)


@contextmanager
def _refusals(name: str, doing: str) -> Iterator[None]:
    """What the engine refuses to do with a service is told as its error."""
    try:
        yield
    except Refused as refused:
        raise ServiceError(f'service "{name}": {doing} failed: {refused.explanation}', service=name) from None


def _lives(state: ContainerState) -> bool:
    """Whether there is a process, if only a frozen one."""
    return state.status in (Status.RUNNING, Status.PAUSED)
