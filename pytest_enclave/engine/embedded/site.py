"""One enclave on the embedded engine: its services by name, and what can be asked of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_enclave.engine.clock import attempted
from pytest_enclave.engine.embedded import wording
from pytest_enclave.engine.embedded.client import Client, Reply
from pytest_enclave.engine.embedded.launching import Enclosure
from pytest_enclave.engine.embedded.reaching import Reach
from pytest_enclave.engine.http import HttpClient
from pytest_enclave.engine.protocol import (
    Action,
    Address,
    EnclaveId,
    Endpoint,
    ExecResult,
    Exit,
    HttpRequest,
    HttpResponse,
    Leak,
    LogLine,
    NotReached,
    ServiceSpec,
)
from pytest_enclave.errors import EnclaveError, EngineError, ServiceError
from pytest_enclave.plan.connections import ConnectionMatrix, of_rows, to_rows
from pytest_enclave.plan.facts import ServiceFact, Status
from pytest_enclave.plan.service import PortSpec

if TYPE_CHECKING:
    from pytest_enclave.engine.embedded.conversation import EmbeddedConversation
    from pytest_enclave.engine.embedded.terminal import EmbeddedTerminal

RELEASE = 2.0
"""Seconds that a public port may take to be free when its service is replaced."""

CLOSING = 15.0
"""Seconds that an enclave has to end."""

ALIVE = ("running", "paused")


class EmbeddedSite:
    """An enclave. `prepare` turns a service into what init starts, `fork` makes an enclave from frozen services."""

    def __init__(
        self,
        enclosure: Enclosure,
        http: HttpClient,
        prepare: Callable[[ServiceSpec], dict[str, Any]],
        fork: Callable[[EnclaveId, Frozen], EmbeddedSite],
    ) -> None:
        self._enclosure = enclosure
        self._client: Client = enclosure.client
        self._http = http
        self._prepare = prepare
        self._fork = fork
        self._reach = Reach(enclosure.client)
        self._frozen: Frozen | None = None
        self._closed = False

    def observe(self) -> Mapping[str, ServiceFact]:
        """Every live service by name, as init knows them: one question to it, or none where nothing has happened."""
        if self._closed:
            return {}
        states = self._client.states()
        if states is None:
            answer = self._client.ask({"do": "observe"})
            if "error" in answer:
                raise wording.refused(f"enclave {self._enclosure.name} cannot tell of its services", answer)
            states = answer["services"]
        return {name: _fact(state) for name, state in states.items() if state["status"] not in ("absent", "starting")}

    def reserve(self, name: str) -> Address:
        """Hostname and address of a service: its name, and the next free address of the enclave's network."""
        answer = self._client.ask({"do": "reserve", "name": name})
        if "error" in answer:
            raise wording.refused(f'service "{name}" cannot have an address', answer)
        return Address(name, answer["ip"])

    def start(
        self, specs: Sequence[ServiceSpec], artifacts: Mapping[str, Path], parallelism: int
    ) -> Mapping[str, EnclaveError | None]:
        """Start services, replacing live ones of the same name; per service None, or what went wrong."""
        outcomes = attempted(lambda spec: self._start(spec, artifacts), specs, parallelism)
        return {spec.name: outcome for spec, outcome in zip(specs, outcomes, strict=True)}

    def act(self, name: str, action: Action) -> None:
        """Do something to a live service. Stopping kills what has not ended after a second.

        What it already is, it stays; removing one that is not there is no error. Raises ServiceError, EngineError.
        """
        answer = self._ask({"do": "act", "name": name, "action": action.value})
        if action is Action.REMOVE:
            self._reach.forget(name)
        if "error" in answer:
            kinds = {"absent": wording.no_service, "ended": wording.does_not_run}
            if answer.get("kind") in kinds:
                raise kinds[answer["kind"]](name)
            raise ServiceError(f'service "{name}": {action.value} failed: {answer["error"]}', service=name)

    def exec(self, name: str, command: Sequence[str], deadline: float | None) -> ExecResult:
        """Run a command in a service (`Site.exec`)."""
        # Here as below: of an enclave that was kept, little is asked.
        from pytest_enclave.engine.embedded.execution import run_command

        self._check_running(name)
        return run_command(self._client, name, command, deadline)

    def terminal(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> EmbeddedTerminal:
        """Run a command in a service, on a terminal (`Site.terminal`)."""
        # Tests have no use for it.
        from pytest_enclave.engine.embedded.terminal import EmbeddedTerminal

        self._check_running(name)
        return EmbeddedTerminal(self._client, name, command, environment)

    def converse(self, name: str, command: Sequence[str]) -> EmbeddedConversation:
        """Run a command in a service, which reads and writes (`Site.converse`)."""
        from pytest_enclave.engine.embedded.conversation import EmbeddedConversation

        self._check_running(name)
        return EmbeddedConversation(self._client, name, command)

    def request(self, name: str, port: PortSpec, request: HttpRequest, deadline: float | None) -> HttpResponse:
        """Ask a service over HTTP. Raises DeadlineExceeded or NotReached."""
        self._running(name)
        return self._http.send(self._reach.dial(name, port), request, deadline)

    def accepts(self, name: str, port: PortSpec) -> bool:
        """Whether something accepts connections on the service's port right now. UDP and SCTP: always."""
        if port.transport_protocol != "TCP":
            return True
        answer = self._ask({"do": "accepts", "name": name, "port": port.number})
        if "error" in answer:
            raise wording.refused(f'port {port.number} of service "{name}" cannot be looked at', answer)
        return bool(answer["accepts"])

    def dial(self, name: str, port: PortSpec) -> Endpoint:
        """Where the test process reaches the port: at its public number, or else its own one if that is free."""
        return self._reach.dial(name, port)

    def read(self, name: str, path: str) -> Iterator[bytes]:
        """A tar stream of a file or directory inside the service. Raises NotReached where there is none."""
        answer, stream = self._streamed({"do": "read", "name": name, "path": path})
        if answer.get("kind") == "absent":
            raise NotReached("there is no such service")
        if "error" in answer:
            raise NotReached(f"there is no {path}: {answer['error']}")
        return stream

    def hold(self, spec: ServiceSpec) -> None:
        """Have a service that runs nothing: there are but its files. Raises ServiceError."""
        answer = self._ask({"do": "hold", "spec": {**self._prepare(spec), "artifacts": [], "moved": []}})
        if "error" in answer:
            raise wording.start_failure(spec, answer)

    def put(
        self, name: str, content: IO[bytes], target: str, *, directory: bool, owner: str, mode: int | None
    ) -> Sequence[str]:
        """Put the files of a tar archive into a service that is held, below `target`, or at it where it is one file.

        `target` is a directory if `directory` says so, or if it is one; `owner` is `user:group`, empty for the
        archive's. Gives files that could not be given the capabilities they have there. Raises ServiceError.
        """
        told = {"do": "put", "name": name, "target": target, "directory": directory, "owner": owner, "mode": mode}
        answer = self._ask(told, [content.fileno()])
        if "error" in answer:
            raise ServiceError(f"{target} cannot be written: {answer['error']}", service=name)
        found: Sequence[str] = answer["without"]
        return found

    def changes(self, name: str) -> Iterator[bytes]:
        """A tar stream of what a service has changed, as a layer of an image. Raises ServiceError."""
        answer, stream = self._streamed({"do": "changes", "name": name})
        if "error" in answer:
            raise ServiceError(f'what service "{name}" changed cannot be read: {answer["error"]}', service=name)
        return stream

    def logs(self, name: str, since: float | None = None) -> Sequence[LogLine]:
        """What the service has written since then (seconds since the epoch), oldest first; nothing if it is gone."""
        from pytest_enclave.engine.embedded.inside.logs import open_segments
        from pytest_enclave.engine.embedded.log_lines import read_lines

        answer, descriptors = self._client.reply({"do": "logs", "name": name})
        if "error" in answer:
            return []
        segments = open_segments(descriptors[0])
        try:
            return read_lines(segments, since)
        finally:
            for descriptor in [*descriptors, *segments]:
                os.close(descriptor)

    def exit_of(self, name: str) -> Exit | None:
        """How the service's process ended, or None while it lives; init tells of it without being asked."""
        state = self._client.state(name)
        return None if state is None else _exit(state)

    def pause(self, seconds: float, watching: str | None = None) -> Exit | None:
        """Let time pass; return early, with the exit, as soon as the watched service ends."""

        def over() -> bool:
            return self._closed or (watching is not None and self.exit_of(watching) is not None)

        try:
            self._client.wait_state(over, seconds)
        except EngineError:
            if not self._closed:
                raise
        return None if watching is None else self.exit_of(watching)

    def shape(self, connections: ConnectionMatrix, seed: int) -> None:
        """Let packets between services travel like this (`Site.shape`). Raises EngineError."""
        answer = self._ask({"do": "shape", "connections": to_rows(connections), "seed": seed})
        if "error" in answer:
            raise wording.refused(f"connections of enclave {self._enclosure.name} cannot be shaped", answer)

    def shaped(self) -> ConnectionMatrix:
        """How packets travel; init tells of it unasked. Raises EngineError, once, where that is not so any more."""
        told = {} if self._closed else self._client.shape
        if not told.get("connections"):
            if "error" in told:
                # From here on nothing is between services, until somebody says so.
                with suppress(EngineError):
                    self.shape({}, 0)
                raise wording.refused(f"connections of enclave {self._enclosure.name} are not shaped any more", told)
            return {}
        return of_rows(told["connections"])

    def freeze(self) -> None:
        """Make what is there now the point that forks start from (`Site.freeze`). Raises ServiceError."""
        answer, namespaces = self._client.reply({"do": "freeze"})
        frozen = _frozen(answer, namespaces)
        if "error" in answer:
            frozen.release()
            raise ServiceError(f"a service did not start again after it was frozen: {answer['error']}")
        # Several threads may freeze: each one's point is released once.
        previous, self._frozen = self._frozen, frozen
        if previous is not None:
            previous.release()

    def fork(self, enclave: EnclaveId) -> EmbeddedSite:
        """A new enclave that begins as this one was when it was frozen, by whoever. Raises EngineError."""
        self._check_open()
        if self._frozen is None:
            answer, namespaces = self._client.reply({"do": "frozen"})
            if "error" in answer:
                raise EngineError(f"enclave {self._enclosure.name} has not been frozen")
            self._frozen = _frozen(answer, namespaces)
        return self._fork(enclave, self._frozen)

    def refresh(self) -> None:
        """Hear what has become of services, and ask anew how they are reached and what forks begin with."""
        self._check_open()
        self._client.settle()
        self._reach.forget_all()
        self._thaw()

    def keep(self, until: float) -> None:
        """Let the enclave stay when its holder ends, until then (seconds since the epoch)."""
        answer = self._ask({"do": "keep", "until": until})
        if "error" in answer:
            raise wording.refused(f"enclave {self._enclosure.name} cannot be kept", answer)

    def close(self) -> Sequence[Leak]:
        """End every process of the enclave, and so remove all it has; what could not be. May be called again."""
        if self._closed:
            return []
        self._closed = True
        self._thaw()
        return self._enclosure.finish(CLOSING)

    def leave(self) -> None:
        """Give up this lease on the enclave: it goes on for its holder, or as it is kept. May be called again."""
        if not self._closed:
            self._closed = True
            self._thaw()
            self._enclosure.leave()

    def adopt(self, services: Sequence[Mapping[str, Any]]) -> None:
        """Begin with services of another enclave, which this one is a fork of. Raises ServiceError."""
        answers: list[tuple[str, Future[Reply]]] = [
            (service["spec"]["name"], self._client.submit({"do": "adopt", **service})[1]) for service in services
        ]
        for name, future in answers:
            answer = self._client.awaited(future)[0]
            if "error" in answer:
                raise ServiceError(f'service "{name}" did not start in the fork: {answer["error"]}', service=name)

    def _start(self, spec: ServiceSpec, artifacts: Mapping[str, Path]) -> None:
        from pytest_enclave.engine.moved import moved_files

        self._check_open()
        mounted = [[str(artifacts[artifact]), path] for path, artifact in sorted(spec.files.items())]
        moved = [[str(file), path] for file, path in moved_files(spec, artifacts)]
        request = {**self._prepare(spec), "artifacts": mounted, "moved": moved}
        with ExitStack() as listeners:
            published = []
            patience = 0.0
            if spec.public_ports and self._reach.renew(spec.name):
                patience = RELEASE
            for id_, public in spec.public_ports.items():
                port = spec.ports.get(id_, public)
                listener = self._reach.publish(spec.name, port, public, patience)
                published.append((port, listeners.enter_context(listener)))
            answer = self._ask({"do": "start", "spec": request})
            # What was public before is so no more.
            self._reach.forget(spec.name)
            if "error" in answer:
                raise wording.start_failure(spec, answer)
            for port, listener in published:
                self._reach.use(spec.name, port, listener)

    def _thaw(self) -> None:
        """Let go of what forks begin with, here."""
        frozen, self._frozen = self._frozen, None
        if frozen is not None:
            frozen.release()

    def _running(self, name: str) -> Mapping[str, Any]:
        state = self._client.state(name)
        if state is None or state["status"] == "absent" or state["exit"] is not None:
            # Another process may have started it just now.
            self._client.settle()
            state = self._client.state(name)
        if state is None or state["status"] == "absent":
            raise NotReached("there is no such service")
        if state["exit"] is not None:
            raise NotReached(f"the service has ended with exit code {state['exit']['code']}")
        return state

    def _check_running(self, name: str) -> None:
        """Raises NotReached where no command can run in the service."""
        if self._running(name)["status"] == "paused":
            raise NotReached("the service is paused")

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        self._check_open()
        return self._client.ask(request, descriptors)

    def _streamed(self, request: dict[str, Any]) -> tuple[dict[str, Any], Iterator[bytes]]:
        """The answer to a request, and what is written to the pipe that goes with it: nothing if there is an error."""
        reader, writer = os.pipe()
        with ExitStack() as undo:
            undo.callback(os.close, reader)
            try:
                answer = self._ask(request, [writer])
            finally:
                os.close(writer)
            if "error" in answer:
                return answer, iter(())
            undo.pop_all()
        return answer, _stream(reader)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(f"enclave {self._enclosure.name} is being closed")


class Frozen:
    """A point that forks start from: the services as they were, the namespaces that have their files, where on disk
    these would be, the layers of persistent directories by key, and how packets traveled."""

    def __init__(
        self,
        services: Sequence[Mapping[str, Any]],
        namespaces: Sequence[int],
        files: Sequence[str],
        directories: Mapping[str, Sequence[str]],
        shape: Mapping[str, Any],
    ) -> None:
        self.services = services
        self.namespaces = namespaces
        self.files = files
        self.directories = directories
        self.shape = shape

    def release(self) -> None:
        """Start no more forks from it."""
        namespaces, self.namespaces = self.namespaces, ()
        for descriptor in namespaces:
            os.close(descriptor)


def _frozen(answer: Mapping[str, Any], namespaces: Sequence[int]) -> Frozen:
    told = (answer.get("files", ()), answer.get("directories", {}), answer.get("shape", {}))
    return Frozen(answer.get("services", ()), namespaces, *told)


def _fact(state: Mapping[str, Any]) -> ServiceFact:
    ending = _exit(state)
    return ServiceFact(Status(state["status"]), state["image"], state["ip"], ending.code if ending else None)


def _exit(state: Mapping[str, Any]) -> Exit | None:
    ending = state["exit"]
    return None if ending is None else Exit(ending["code"], ending["out_of_memory"])


def _stream(reader: int) -> Iterator[bytes]:
    with open(reader, "rb", buffering=0) as stream:
        while chunk := stream.read(1 << 16):
            yield chunk
