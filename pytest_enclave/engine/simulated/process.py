"""One process of a simulated service: a pure function from the time to what it does.

Nothing happens by itself: whether the process has ended, what it has written and which ports are open is
worked out from its script whenever someone asks. Only actions (stop, kill, pause …) make a new value.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.protocol import Exit, ServiceSpec
from pytest_enclave.engine.simulated.behaviour import Behaviour
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec


class Ending(NamedTuple):
    """When a process ends (`Clock.now()`), and how."""

    at: float
    exit: Exit


class Process(msgspec.Struct, frozen=True):
    """A service's process. All times are `Clock.now()`; those of its script count from `began`.

    A pause moves `began` by its length when it is over, so that the process' own time stood still meanwhile.
    `written` are the lines, with their times, that no later pause may move any more; `pending` is what the
    script has besides them.
    """

    spec: ServiceSpec
    behaviour: Behaviour
    began: float
    pending: tuple[tuple[float, str], ...]
    written: tuple[tuple[float, str], ...] = ()
    paused_at: float | None = None
    ended: Ending | None = None
    stopped: bool = False

    @classmethod
    def start(
        cls, spec: ServiceSpec, behaviour: Behaviour, now: float, written: tuple[tuple[float, str], ...] = ()
    ) -> Process:
        """A process that begins now; its lines follow those that the service has already written."""
        return cls(spec, behaviour, now, behaviour.logs, written)

    def restart(self, now: float) -> Process:
        """Another process of the same service that begins now, in the place of this one."""
        return Process.start(self.spec, self.behaviour, now, self.lines(now))

    @property
    def ending(self) -> Ending | None:
        """When and how it ends unless something is done to it, or ended; None: not as things stand."""
        if self.ended is not None:
            return self.ended
        if self.paused_at is not None or self.behaviour.exits_after is None:
            return None
        return Ending(self.began + self.behaviour.exits_after, self.behaviour.exits_with)

    def exit(self, now: float) -> Exit | None:
        """How it ended, None while it lives."""
        ending = self.ending
        return ending.exit if ending is not None and ending.at <= now else None

    def status(self, now: float) -> Status:
        """What it is doing. Only one that was told to stop is stopped; any other that ended has exited."""
        if self.exit(now) is not None:
            return Status.STOPPED if self.stopped else Status.EXITED
        return Status.RUNNING if self.paused_at is None else Status.PAUSED

    def accepts(self, port: PortSpec, now: float) -> bool:
        """Whether the port is open. A paused process' ports are: the kernel accepts for it."""
        if port.transport_protocol == "UDP":
            return True
        if self.exit(now) is not None:
            return False
        own_now = now if self.paused_at is None else self.paused_at
        waits = [self.behaviour.opens_after.get(name, 0.0) for name in self._names_of(port)]
        return all(wait is not None and self.began + wait <= own_now for wait in waits)

    def lines(self, now: float) -> tuple[tuple[float, str], ...]:
        """What it has written up to now: (time, line), oldest first."""
        ending = self.ending
        bounds = (now, self.paused_at, ending.at if ending is not None else None)
        until = min(bound for bound in bounds if bound is not None)
        due = tuple((self.began + after, text) for after, text in self.pending)
        return tuple((at, text) for at, text in (*self.written, *due) if at <= until)

    def stop(self, now: float) -> Process:
        """Told to stop (SIGTERM), it ends at once; where it has already ended, it now counts as stopped."""
        return replace(self.kill(now, signal=15), stopped=True)

    def kill(self, now: float, signal: int = 9) -> Process:
        """Ended by a signal, unless it has already ended."""
        if self.exit(now) is not None:
            return self
        return replace(self, written=self.lines(now), pending=(), paused_at=None, ended=Ending(now, Exit(128 + signal)))

    def pause(self, now: float) -> Process:
        """Its own time stands still from now on."""
        if self.paused_at is not None:
            return self
        pending = tuple((after, text) for after, text in self.pending if self.began + after > now)
        return replace(self, paused_at=now, written=self.lines(now), pending=pending)

    def resume(self, now: float) -> Process:
        """Its own time goes on where it stood still."""
        if self.paused_at is None:
            return self
        return replace(self, began=self.began + now - self.paused_at, paused_at=None)

    def _names_of(self, port: PortSpec) -> list[str]:
        return [
            name
            for name, declared in (*self.spec.ports.items(), *self.spec.public_ports.items())
            if (declared.number, declared.transport_protocol) == (port.number, port.transport_protocol)
        ]
