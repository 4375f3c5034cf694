"""The seam between plans and whatever runs services.

An engine sees resolved values only, never future references. Every method may be called from several threads.
Methods raise the errors of `pytest_enclave.errors`; no engine's own exceptions pass this seam.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from pytest_enclave.errors import EnclaveError, Problem
from pytest_enclave.plan.connections import ConnectionMatrix
from pytest_enclave.plan.events import Emit
from pytest_enclave.plan.facts import Capacity, ServiceFact
from pytest_enclave.plan.image_sources import Build, Login
from pytest_enclave.plan.service import Gpu, PortSpec

Item = TypeVar("Item")
Result = TypeVar("Result")


NO_LOGINS: Mapping[str, Login] = {}


class DeadlineExceeded(Exception):
    """What was asked of a service took longer than the caller allows."""


class NotReached(Exception):
    """A service could not be talked to; the text says why in a few words (`connection refused`)."""


class Probe(msgspec.Struct, frozen=True):
    """What an engine is, in words for the header line: where it is, and why it was chosen."""

    endpoint: str
    why: str
    version: str = ""


class EnclaveId(msgspec.Struct, frozen=True):
    """An enclave's name, unique on the machine, and readable: it is part of every resource's name.

    `home` is the directory where this user's ledger tells of it, "" for none. `holder` is the process that it lives
    for, 0 for the one that opens it: when that is killed, the enclave goes.
    """

    name: str
    home: str = ""
    holder: int = 0


class Address(msgspec.Struct, frozen=True):
    """Where a service is, seen from inside the enclave."""

    hostname: str
    ip_address: str


class Endpoint(msgspec.Struct, frozen=True):
    """Where a service's port is, seen from the test process."""

    host: str
    port: int


class ServiceSpec(msgspec.Struct, frozen=True):
    """A service to start, all values resolved. CPU in millicores, memory in megabytes, None: no limit.

    `files` maps a mount path to the artifact's name, `directories` to the key of a persistent directory: one that all
    services of the enclave with that key share, and write to. It begins with what the image of the first one has at the
    path, stays when services go, and goes with the enclave. Empty `entrypoint` and `cmd` mean the image's own.
    `user` is `uid` or `uid:gid`, empty for the image's own. `moved` maps the path of a file in `files` to the one that
    the service is to have a copy at. What else there is an engine may lack: `Engine.check` then warns.
    """

    name: str
    image: str
    address: Address
    ports: Mapping[str, PortSpec] = msgspec.field(default_factory=dict)
    public_ports: Mapping[str, PortSpec] = msgspec.field(default_factory=dict)
    files: Mapping[str, str] = msgspec.field(default_factory=dict)
    directories: Mapping[str, str] = msgspec.field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env_vars: Mapping[str, str] = msgspec.field(default_factory=dict)
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    max_cpu: int | None = None
    max_memory: int | None = None
    user: str = ""
    devices: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    gpu: Gpu | None = None
    init: bool = False
    terminal: bool = False
    moved: Mapping[str, str] = msgspec.field(default_factory=dict)


class Exit(msgspec.Struct, frozen=True):
    """How a service's process ended: its code (128 + signal where one killed it), and whether memory ran out."""

    code: int
    out_of_memory: bool = False


class ExecResult(msgspec.Struct, frozen=True):
    """What a command inside a service gave: exit code; stdout and stderr in the order they were written."""

    code: int
    output: str


class HttpRequest(msgspec.Struct, frozen=True):
    """A request to one of a service's ports. `endpoint` is path and query."""

    method: str
    endpoint: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes | None = None


class HttpResponse(msgspec.Struct, frozen=True):
    """The response: status, headers, decoded body."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class LogLine(msgspec.Struct, frozen=True):
    """One line a service wrote: when (seconds since the epoch), and what."""

    at: float
    text: str


class Action(Enum):
    """What can be done to a live service."""

    START = "start"
    STOP = "stop"
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"
    REMOVE = "remove"


class PullPolicy(Enum):
    """When to ask the registry for an image."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class Leak(msgspec.Struct, frozen=True):
    """A resource that could not be removed: what it is, its name, why, and the exact command that removes it."""

    kind: str
    name: str
    reason: str
    command: str


class Clock(Protocol):
    """Time as the engine has it: real, or virtual in the simulated engine. Seconds."""

    def now(self) -> float:
        """Monotonic seconds."""

    def wall(self) -> float:
        """Seconds since the epoch, on the clock that stamps log lines."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item], limit: int) -> list[Result]:
        """The work done on every item, at most `limit` at a time; results in the items' order.

        All are tried; if any raised, the first one's exception (in the items' order) is raised at the end.
        """


class Terminal(Protocol):
    """A command in a service that has a terminal of its own, as its user has it."""

    def fileno(self) -> int:
        """A descriptor: what is written there has been typed, what is read has been shown. It ends with the command."""

    def resize(self, rows: int, columns: int) -> None:
        """The terminal has this size from now on."""

    def wait(self) -> int:
        """The command's exit code, when it has ended. Raises EngineError."""

    def close(self) -> None:
        """Let go of the terminal: the command and its jobs end, if it still runs. May be called again."""


class Conversation(Protocol):
    """A command in a service with its input and output, as its user has them."""

    def fileno(self) -> int:
        """A descriptor from which is read what it writes, stdout and stderr as they come. It ends with the command."""

    def input(self) -> int:
        """A descriptor: what is written there, it reads."""

    def end_input(self) -> None:
        """There is no more to be read. May be called again."""

    def wait(self) -> int:
        """The command's exit code, when it has ended. Raises NotReached where it could not begin, and EngineError."""

    def close(self) -> None:
        """Let go of it: the command and its jobs are killed, if it still runs. May be called again."""


class Site(Protocol):
    """One enclave on an engine."""

    def observe(self) -> Mapping[str, ServiceFact]:
        """Every live service by name, in one call to the engine or none."""

    def reserve(self, name: str) -> Address:
        """Hostname and address of a service, known before it starts and kept when it is replaced."""

    def start(
        self, specs: Sequence[ServiceSpec], artifacts: Mapping[str, Path], parallelism: int
    ) -> Mapping[str, EnclaveError | None]:
        """Start services, replacing live ones of the same name; per service None, or what went wrong.

        `artifacts` maps the name of everything in `files` to the directory that holds its content.
        """

    def act(self, name: str, action: Action) -> None:
        """Do something to a live service. Removing frees its name and drops its log; one that is gone is no error."""

    def exec(self, name: str, command: Sequence[str], deadline: float | None) -> ExecResult:
        """Run a command in a service. `deadline` is a `Clock.now()`.

        Raises DeadlineExceeded, or NotReached where the service does not run. A missing binary is exit code 127, one
        that may not be executed 126, with the reason as output.
        """

    def terminal(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Terminal:
        """Run a command in a service, on a terminal; with these variables besides the service's own.

        Raises NotReached where the service does not run, and EngineError. A missing binary is exit code 127 or 126.
        """

    def converse(self, name: str, command: Sequence[str]) -> Conversation:
        """Run a command in a service, which reads and writes without a terminal. Otherwise as `terminal`."""

    def request(self, name: str, port: PortSpec, request: HttpRequest, deadline: float | None) -> HttpResponse:
        """Ask a service over HTTP. Raises DeadlineExceeded or NotReached."""

    def accepts(self, name: str, port: PortSpec) -> bool:
        """Whether something accepts connections on the service's port right now (UDP: always)."""

    def dial(self, name: str, port: PortSpec) -> Endpoint:
        """Where the test process reaches the port."""

    def read(self, name: str, path: str) -> Iterator[bytes]:
        """A tar stream of a file or directory inside the service. Raises NotReached where there is none."""

    def logs(self, name: str, since: float | None = None) -> Sequence[LogLine]:
        """What the service has written since then (seconds since the epoch), oldest first."""

    def exit_of(self, name: str) -> Exit | None:
        """How the service's process ended, or None while it lives. Cheap: known from events."""

    def pause(self, seconds: float, watching: str | None = None) -> Exit | None:
        """Let time pass; return early, with the exit, as soon as the watched service ends."""

    def shape(self, connections: ConnectionMatrix, seed: int) -> None:
        """From now on packets between services travel like this, whatever was said before.

        It names services that have an address (`reserve`), whether they run or not: one that starts later is shaped
        from its first packet. What is lost is chosen by the seed: the same packets each time, for each pair that is
        said anew or differently. Connections that are established stay so. Raises EngineError, and changes nothing
        then.
        """

    def shaped(self) -> ConnectionMatrix:
        """How packets travel now, whoever said so; empty where nothing is between any services."""

    def freeze(self) -> None:
        """Make what is there now the point that forks start from: what runs is stopped cleanly, and goes on from it.

        Nothing that happens afterwards is seen by forks. Freezing again moves the point. Raises EngineError, or
        ServiceError.
        """

    def fork(self, enclave: EnclaveId) -> Site:
        """A new enclave that begins as this one was when it was frozen: the same services, files inside them, names.

        Writes in either never reach the other. Addresses may differ (`observe` tells). It lives on when this one is
        closed. Raises EngineError.
        """

    def refresh(self) -> None:
        """Other processes may have changed what is in the enclave: whatever is remembered of it is asked for anew."""

    def keep(self, until: float) -> None:
        """Let the enclave stay when its holder ends, until then (seconds since the epoch), or until it is removed."""

    def leave(self) -> None:
        """Let go of the enclave in this process; it stays for its holder, or as it is kept. May be called again."""

    def close(self) -> Sequence[Leak]:
        """Remove everything this enclave has on the engine; returns what could not be removed. May be called again."""


class Engine(Protocol):
    """Something that can run services."""

    @property
    def name(self) -> str:
        """As `--enclave-engine` has it."""

    @property
    def identity(self) -> str:
        """Equal for engines on which the same enclaves are found, made in the same way. Raises EngineUnavailable."""

    @property
    def is_shared(self) -> bool:
        """Whether its enclaves can be there for other processes, and without this one: `attach`, `Site.keep`."""

    @property
    def clock(self) -> Clock:
        """The time that waits are measured in."""

    def probe(self) -> Probe:
        """Where the engine is. Starts nothing. Raises EngineUnavailable, with all that was tried."""

    def local_images(self, references: Iterable[str]) -> Mapping[str, str | None]:
        """The digest of each image the engine has, None for one it does not have."""

    def resolve_images(
        self,
        references: Iterable[str],
        policy: PullPolicy,
        emit: Emit,
        logins: Mapping[str, Login] = NO_LOGINS,
    ) -> Mapping[str, str | Problem]:
        """Have every image there, in parallel: its digest, or why it cannot be had.

        `logins` are credentials for single references, and for their registries alone.
        """

    def build_images(self, builds: Iterable[Build], policy: PullPolicy, emit: Emit) -> Mapping[str, str | Problem]:
        """Have every image there under its `Build.name`: its digest, or why it cannot be built.

        One that was built of the same before is there already, unless the policy is to ask registries always.
        """

    def capacity(self) -> Capacity | None:
        """What services can be given in all, None where that is not known."""

    def check(self, spec: ServiceSpec) -> Sequence[Problem]:
        """What of this service the engine cannot do: warnings and errors, with a remedy."""

    def prepare(self, services: Collection[str]) -> None:
        """A further enclave with services of these names will be asked for soon: time to get ready, in the background.

        Returns at once, and never fails: an engine that cannot get ready, or need not, does nothing.
        """

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> Site:
        """A new, empty enclave, for services of these names as far as one knows: it may have been prepared."""

    def attach(self, enclave: EnclaveId) -> Site:
        """An enclave that another process has made, or an earlier session: from now on it lives for this holder.

        Raises EngineError if it is gone, or not whole.
        """

    def remove(self, enclave: EnclaveId) -> Sequence[Leak]:
        """Remove all that there is of an enclave, whoever made it, however far; what could not be removed.

        One of which there is nothing is no error.
        """

    def close(self) -> Sequence[Leak]:
        """Let go of connections and threads, and of what was prepared; what of that could not be removed.

        The engine is not used afterwards.
        """
