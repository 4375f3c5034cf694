"""A live service, as a test sees it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.enclave.fault import Fault, Kind
from pytest_enclave.engine.protocol import Action, Clock, DeadlineExceeded, ExecResult, NotReached, Site
from pytest_enclave.errors import RecipeFailed, ServiceError
from pytest_enclave.plan.service import PortSpec, ServiceConfig

if TYPE_CHECKING:
    from pytest_enclave.enclave.faults import Faults, LiveFault


class Port(msgspec.Struct, frozen=True):
    """A service's port, and where the test process reaches it.

    `number` is the port inside the enclave; `host` and `host_port` are what to connect to from here, `address` both as
    `host:port`, `url` the same with the application protocol in front (`http://172.18.0.2:8080`).
    """

    number: int
    transport_protocol: str
    application_protocol: str | None
    host: str
    host_port: int

    @property
    def address(self) -> str:
        """`host:port`, with brackets round an IPv6 host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.host_port}"

    @property
    def url(self) -> str:
        """The address with its protocol; `tcp`, `udp` or `sctp` where the package names no application protocol."""
        return f"{self.application_protocol or self.transport_protocol.lower()}://{self.address}"


class Service:
    """A service of an enclave. What a test does with it never becomes part of the enclave's plan.

    `site` and `faults` are its enclave's; they raise EngineError where that is closed, and so does most that is done.
    """

    def __init__(
        self, name: str, config: ServiceConfig, site: Callable[[], Site], clock: Clock, faults: Callable[[], Faults]
    ) -> None:
        self._name = name
        self._config = config
        self._open_site = site
        self._clock = clock
        self._faults = faults

    def __repr__(self) -> str:
        return f"<Service {self._name!r} {self._config.image}>"

    @property
    def _site(self) -> Site:
        __tracebackhide__ = True
        return self._open_site()

    @property
    def name(self) -> str:
        """The name the package gave it; also its DNS name inside the enclave."""
        return self._name

    @property
    def hostname(self) -> str:
        """Its host name inside the enclave."""
        return self._site.reserve(self._name).hostname

    @property
    def ip_address(self) -> str:
        """Its address inside the enclave."""
        return self._site.reserve(self._name).ip_address

    @property
    def ports(self) -> Mapping[str, Port]:
        """Its ports by id, reachable from the test process. Raises ServiceError where the service is gone."""
        __tracebackhide__ = True
        return MappingProxyType({port_id: self._port(spec) for port_id, spec in self._config.ports.items()})

    def _port(self, spec: PortSpec) -> Port:
        __tracebackhide__ = True
        try:
            endpoint = self._site.dial(self._name, spec)
        except NotReached as error:
            reason = f"port {spec.number} of service `{self._name}` cannot be reached: {error}"
            raise ServiceError(reason, service=self._name) from None
        return Port(spec.number, spec.transport_protocol, spec.application_protocol, endpoint.host, endpoint.port)

    def exec(self, command: Sequence[str], *, timeout: float | None = None) -> ExecResult:
        """Run a command in it; `.code` and `.output` (stdout and stderr together). `timeout` in seconds.

        Any exit code is a result. Raises RecipeFailed where there is none: the service does not run, or time ran out.
        """
        __tracebackhide__ = True
        words = _checked(command)
        deadline = None if timeout is None else self._clock.now() + timeout
        try:
            return self._site.exec(self._name, words, deadline)
        except DeadlineExceeded:
            reason = "no result in time" if timeout is None else f"no result within {timeout:g} s"
        except NotReached as error:
            reason = str(error)
        raise RecipeFailed(f"`{shlex.join(words)}` in service `{self._name}`: {reason}", service=self._name)

    def logs(self, since: float | None = None) -> str:
        """What it has written, oldest line first; `since` in seconds since the epoch."""
        return "".join(f"{line.text}\n" for line in self._site.logs(self._name, since))

    def start(self) -> None:
        """Start it again after `stop` or `kill`, and wait until its ports accept connections."""
        start_again(self._site, self._clock, self._name, self._config)

    def stop(self) -> None:
        """Stop it: its process is asked to end, then killed. Its files stay."""
        self._site.act(self._name, Action.STOP)

    def kill(self) -> None:
        """Kill its process at once. Its files stay."""
        self._site.act(self._name, Action.KILL)

    def pause(self) -> None:
        """Freeze its processes: connections stay open, nothing answers."""
        self._site.act(self._name, Action.PAUSE)

    def resume(self) -> None:
        """Let its processes go on after `pause`."""
        self._site.act(self._name, Action.RESUME)

    def stopped(self) -> LiveFault:
        """A fault, as those of `Enclave.network`: it is stopped, and started again when the `with` ends.

        This and the other two raise ServiceError where it does not run.
        """
        __tracebackhide__ = True
        return self._broken("stop")

    def killed(self) -> LiveFault:
        """A fault: it is killed, and started again when the `with` ends. Its files stay."""
        __tracebackhide__ = True
        return self._broken("kill")

    def paused(self) -> LiveFault:
        """A fault: it is frozen until the `with` ends."""
        __tracebackhide__ = True
        return self._broken("pause")

    def _broken(self, kind: Kind) -> LiveFault:
        __tracebackhide__ = True
        return self._faults().begin(Fault(kind, ((self._name,),)))


def start_again(site: Site, clock: Clock, name: str, config: ServiceConfig) -> None:
    """Start a service that is at rest, and wait until its ports accept connections, or their time is over."""
    # What starts services is not needed for those that are there.
    from pytest_enclave.instructions.starting import awaited_ports

    site.act(name, Action.START)
    waited = awaited_ports(config).values()
    deadline = clock.now() + max((spec.wait or 0.0 for spec in waited), default=0.0)
    while clock.now() < deadline and not all(site.accepts(name, spec) for spec in waited):
        if site.pause(0.02, watching=name) is not None:
            return


def _checked(command: Sequence[str]) -> tuple[str, ...]:
    """The command's words. Raises TypeError where it is not a list of strings, ValueError where it is empty."""
    __tracebackhide__ = True
    if isinstance(command, str):
        raise TypeError(f'a command is a list of arguments: exec(["/bin/sh", "-c", {command!r}])')
    words = tuple(command)
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"a command is a list of strings: write {word!r} (type {type(word).__name__}) as one")
    if not words:
        raise ValueError('a command is a list of at least one argument, the program: exec(["true"])')
    return words
