"""One simulated enclave: the only place where the services of a simulation live."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.protocol import (
    Action,
    Address,
    DeadlineExceeded,
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
from pytest_enclave.engine.simulated.clock import EPOCH, VirtualClock
from pytest_enclave.engine.simulated.files import Directories, Files
from pytest_enclave.engine.simulated.process import Process
from pytest_enclave.engine.simulated.rules import ExecRule, RequestRule
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.engine.simulated.shell import Performed, perform
from pytest_enclave.errors import EnclaveError, EngineError, ImageUnavailable, ServiceError
from pytest_enclave.plan.connections import ConnectionMatrix
from pytest_enclave.plan.facts import ServiceFact, Status
from pytest_enclave.plan.service import PortSpec

GATEWAY = IPv4Address("10.99.0.1")
"""The first service has the address after this one."""

REFUSING = Endpoint("127.0.0.1", 1)
"""Where every port is, seen from the test process: a privileged port that nothing listens on."""

KILLED = 137
"""The exit code of a command whose service ended under it: 128 + SIGKILL."""


class Call(NamedTuple):
    """A method that the engine was asked for: when (`Clock.now()`), which, and its arguments by name."""

    at: float
    method: str
    details: Mapping[str, Any]


class Frozen(msgspec.Struct, frozen=True):
    """What forks begin with: addresses, processes and files by service, who ran, persistent directories, how often
    each rule answered, and what is between services."""

    addresses: Mapping[str, Address]
    processes: Mapping[str, Process]
    running: frozenset[str]
    files: Mapping[str, Files]
    directories: Directories
    answered: Counter[ExecRule | RequestRule]
    shaped: ConnectionMatrix


class SimulatedSite:
    """A `Site` without containers. `calls` tells all it was asked, in order, also after it was closed.

    `know` is told of forks.
    """

    def __init__(
        self, enclave: EnclaveId, clock: VirtualClock, script: Script, know: Callable[[SimulatedSite], None]
    ) -> None:
        self.enclave = enclave
        self.calls: list[Call] = []
        self._clock = clock
        self._script = script
        self._know = know
        self._frozen: Frozen | None = None
        self._lock = threading.RLock()
        self._addresses: dict[str, Address] = {}
        self._processes: dict[str, Process] = {}
        self._files: dict[str, Files] = {}
        self._directories = Directories()
        self._answered: Counter[ExecRule | RequestRule] = Counter()
        self._leaks = script.leaks
        self._shaped: ConnectionMatrix = {}

    def asked(self, method: str) -> list[Mapping[str, Any]]:
        """The arguments of every call of that method, in order."""
        return [call.details for call in self.calls if call.method == method]

    def observe(self) -> Mapping[str, ServiceFact]:
        """Every live service by name, in the order in which they were started."""
        self._note("observe")
        now = self._clock.now()
        with self._lock:
            processes = dict(self._processes)
        return {name: self._fact(process, now) for name, process in processes.items()}

    def _fact(self, process: Process, now: float) -> ServiceFact:
        ended = process.exit(now)
        return ServiceFact(
            status=process.status(now),
            image=self._script.image_of(process.spec.image).digest,
            ip_address=process.spec.address.ip_address,
            exit_code=None if ended is None else ended.code,
        )

    def reserve(self, name: str) -> Address:
        """The name as hostname, and the next free address of 10.99.0.0/16, for good."""
        self._note("reserve", name=name)
        with self._lock:
            free = GATEWAY + 1 + len(self._addresses)
            return self._addresses.setdefault(name, Address(name, str(free)))

    def start(
        self, specs: Sequence[ServiceSpec], artifacts: Mapping[str, Path], parallelism: int
    ) -> Mapping[str, EnclaveError | None]:
        """Start services as their script has it, replacing live ones of the same name."""
        self._note("start", specs=tuple(specs), artifacts=dict(artifacts), parallelism=parallelism)
        troubles = self._clock.map(lambda spec: self._start(spec, artifacts), specs, parallelism)
        return {spec.name: trouble for spec, trouble in zip(specs, troubles, strict=True)}

    def act(self, name: str, action: Action) -> None:
        """Do something to a live service. What it already is, it stays.

        Raises ServiceError where there is no such service (unless it is to be removed), where it does not start, and
        where it is to be paused or resumed but does not run.
        """
        self._note("act", name=name, action=action)
        with self._lock:
            process = self._processes.get(name)
            if process is None and action is Action.REMOVE:
                return
            if process is None:
                raise ServiceError(f"there is no service `{name}`", service=name)
            now = self._clock.now()
            match action:
                case Action.START:
                    self._start_again(process)
                case Action.STOP:
                    self._processes[name] = process.stop(now)
                case Action.KILL:
                    self._processes[name] = process.kill(now)
                case Action.PAUSE | Action.RESUME if process.exit(now) is not None:
                    raise ServiceError(f"service `{name}` does not run", service=name)
                case Action.PAUSE:
                    self._processes[name] = process.pause(now)
                case Action.RESUME:
                    self._processes[name] = process.resume(now)
                case Action.REMOVE:
                    self._forget(name)

    def exec(self, name: str, command: Sequence[str], deadline: float | None) -> ExecResult:
        """The scripted answer; or else what the built-in commands give; or else nothing, successfully.

        A command under which its service ends gives 137. Raises DeadlineExceeded and NotReached.
        """
        words = tuple(command)
        self._note("exec", name=name, command=words, deadline=deadline)
        process = self._reach(name)
        if process.paused_at is not None:
            raise NotReached("the service is paused")
        asked_at = self._clock.now()
        rule = self._script.rule_for_exec(name, words)
        if rule is None:
            done = perform(words, self._files[name].content) or Performed(ExecResult(0, ""))
            survived = self._spend(process, self._script.times.exec + done.seconds, deadline)
            return done.result if survived else ExecResult(KILLED, "")
        earlier = self._count(rule)
        takes = self._script.times.exec if rule.takes is None else rule.takes
        survived = self._spend(process, takes, deadline)
        return rule.answer(earlier, words, asked_at) if survived else ExecResult(KILLED, "")

    def terminal(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
        """Raises EngineError: nothing runs that could have a terminal."""
        raise EngineError(f"service `{name}` is simulated: there is nothing in it that could have a terminal")

    def converse(self, name: str, command: Sequence[str]) -> NoReturn:
        """Raises EngineError: nothing runs that could read or write."""
        raise EngineError(f"service `{name}` is simulated: there is nothing in it that could read or write")

    def request(self, name: str, port: PortSpec, request: HttpRequest, deadline: float | None) -> HttpResponse:
        """The scripted answer, or else an empty 200. Raises DeadlineExceeded and NotReached."""
        self._note("request", name=name, port=port, request=request, deadline=deadline)
        process = self._reach(name)
        asked_at = self._clock.now()
        if not process.accepts(port, asked_at):
            raise NotReached("connection refused")
        if process.paused_at is not None:
            self._hang(deadline)
        rule = self._script.rule_for_request(name, request)
        takes = self._script.times.request if rule is None or rule.takes is None else rule.takes
        earlier = 0 if rule is None else self._count(rule)
        if not self._spend(process, takes, deadline):
            raise NotReached("connection reset by peer")
        return HttpResponse(200, {}, b"") if rule is None else rule.answer(earlier, request, asked_at)

    def accepts(self, name: str, port: PortSpec) -> bool:
        """Whether the service's port is open now; no port of a service that is not there is."""
        self._note("accepts", name=name, port=port)
        process = self._processes.get(name)
        return process is not None and process.accepts(port, self._clock.now())

    def dial(self, name: str, port: PortSpec) -> Endpoint:
        """An endpoint that refuses connections at once. Raises NotReached where there is no such service."""
        self._note("dial", name=name, port=port)
        self._known(name)
        return REFUSING

    def read(self, name: str, path: str) -> Iterator[bytes]:
        """A tar stream of scripted files and mounted artifacts. Raises NotReached where there is none."""
        self._note("read", name=name, path=path)
        self._known(name)
        return self._files[name].tar(path)

    def logs(self, name: str, since: float | None = None) -> Sequence[LogLine]:
        """What the service has written since then (seconds since the epoch); nothing if it is not there."""
        self._note("logs", name=name, since=since)
        process = self._processes.get(name)
        if process is None:
            return ()
        lines = [LogLine(EPOCH + at, text) for at, text in process.lines(self._clock.now())]
        return tuple(line for line in lines if since is None or line.at >= since)

    def exit_of(self, name: str) -> Exit | None:
        """How the service's process ended, None while it lives and where it is not there."""
        self._note("exit_of", name=name)
        process = self._processes.get(name)
        return None if process is None else process.exit(self._clock.now())

    def pause(self, seconds: float, watching: str | None = None) -> Exit | None:
        """Let virtual time pass; return early, with the exit, as soon as the watched service ends."""
        self._note("pause", seconds=seconds, watching=watching)
        until = self._clock.now() + max(0.0, seconds)
        process = None if watching is None else self._processes.get(watching)
        ending = None if process is None else process.ending
        if ending is None or ending.at > until:
            self._clock.advance_to(until)
            return None
        self._clock.advance_to(ending.at)
        return ending.exit

    def shape(self, connections: ConnectionMatrix, seed: int) -> None:
        """Noted only: nothing is sent here. Raises EngineError for a service without an address."""
        self._note("shape", connections=dict(connections), seed=seed)
        with self._lock:
            unknown = sorted({name for pair in connections for name in pair} - self._addresses.keys())
            if unknown:
                raise EngineError(f"service `{unknown[0]}` has no address: nothing can be between it and others")
            self._shaped = dict(connections)

    def shaped(self) -> ConnectionMatrix:
        """What was said last."""
        with self._lock:
            return dict(self._shaped)

    def freeze(self) -> None:
        """Stop what runs and start it again, which takes no time: its script begins anew, its log goes on."""
        self._note("freeze")
        with self._lock:
            now = self._clock.now()
            running = {n: process for n, process in self._processes.items() if process.status(now) is Status.RUNNING}
            self._processes |= {name: process.restart(now) for name, process in running.items()}
            self._frozen = Frozen(
                dict(self._addresses),
                dict(self._processes),
                frozenset(running),
                dict(self._files),
                self._directories.copy(),
                Counter(self._answered),
                dict(self._shaped),
            )

    def fork(self, enclave: EnclaveId) -> SimulatedSite:
        """An enclave at the same addresses, with calls of its own, up at once. Raises EngineError before any freeze."""
        self._note("fork", enclave=enclave)
        frozen, now = self._frozen, self._clock.now()
        if frozen is None:
            raise EngineError(f"enclave {self.enclave.name} was never frozen: there is nothing to fork")
        fork = SimulatedSite(enclave, self._clock, self._script, self._know)
        fork._addresses = dict(frozen.addresses)
        fork._processes = {
            name: replace(process, began=now) if name in frozen.running else process
            for name, process in frozen.processes.items()
        }
        fork._directories = frozen.directories.copy()
        fork._files = {name: files.within(fork._directories) for name, files in frozen.files.items()}
        fork._answered = Counter(frozen.answered)
        fork._shaped = dict(frozen.shaped)
        self._know(fork)
        return fork

    def refresh(self) -> None:
        """Nobody else can have changed anything."""
        self._note("refresh")

    def keep(self, until: float) -> None:
        """Noted only: it ends with this process."""
        self._note("keep", until=until)

    def leave(self) -> None:
        """Noted only: it goes on as it is."""
        self._note("leave")

    def close(self) -> Sequence[Leak]:
        """Empty the enclave; returns the scripted leaks, the first time."""
        self._note("close")
        with self._lock:
            self._processes.clear()
            self._files.clear()
            self._shaped = {}
            leaks, self._leaks = self._leaks, ()
        return leaks

    def _note(self, method: str, **details: Any) -> None:
        self.calls.append(Call(self._clock.now(), method, details))

    def _start(self, spec: ServiceSpec, artifacts: Mapping[str, Path]) -> EnclaveError | None:
        self._forget(spec.name)
        missing = self._script.image_of(spec.image).missing
        if missing is not None:
            return ImageUnavailable(f"image `{spec.image}` cannot be had: {missing}")
        unknown = [artifact for artifact in spec.files.values() if artifact not in artifacts]
        if unknown:
            return ServiceError(f"there is no files artifact `{unknown[0]}`", service=spec.name)
        mounts = {path: artifacts[artifact] for path, artifact in spec.files.items()}
        with self._lock:
            scripted = self._script.behaviour_of(spec.name).files
            self._files[spec.name] = Files(scripted, mounts, spec.directories, self._directories)
        return self._run(spec)

    def _start_again(self, process: Process) -> None:
        now = self._clock.now()
        trouble = None if process.exit(now) is None else self._run(process.spec, process.lines(now))
        if trouble is not None:
            raise trouble

    def _run(self, spec: ServiceSpec, written: tuple[tuple[float, str], ...] = ()) -> ServiceError | None:
        """Have the time pass that a start takes; at its end the process begins."""
        behaviour = self._script.behaviour_of(spec.name)
        takes = behaviour.start_takes
        self._clock.advance(self._script.times.start if takes is None else takes)
        if behaviour.start_fails is not None:
            return ServiceError(behaviour.start_fails, service=spec.name)
        with self._lock:
            self._processes[spec.name] = Process.start(spec, behaviour, self._clock.now(), written)
        return None

    def _forget(self, name: str) -> None:
        with self._lock:
            self._processes.pop(name, None)
            self._files.pop(name, None)

    def _known(self, name: str) -> Process:
        process = self._processes.get(name)
        if process is None:
            raise NotReached(f"there is no service `{name}`")
        return process

    def _reach(self, name: str) -> Process:
        process = self._known(name)
        if process.exit(self._clock.now()) is not None:
            raise NotReached(f"the service does not run ({process.status(self._clock.now()).value})")
        return process

    def _count(self, rule: ExecRule | RequestRule) -> int:
        """How often this rule was asked before; from now on once more."""
        with self._lock:
            self._answered[rule] += 1
            return self._answered[rule] - 1

    def _hang(self, deadline: float | None) -> NoReturn:
        """Wait for a paused service to answer a connection that the kernel accepted for it."""
        if deadline is None:
            raise NotReached("the service is paused")
        self._clock.advance_to(deadline)
        raise DeadlineExceeded("the service is paused")

    def _spend(self, process: Process, seconds: float, deadline: float | None) -> bool:
        """Let time pass at a service; False, and sooner, where it ends meanwhile. Raises DeadlineExceeded."""
        until = self._clock.now() + seconds
        ending = process.ending
        survives = ending is None or ending.at >= until
        over = until if ending is None else min(until, ending.at)
        if deadline is not None and over > deadline:
            self._clock.advance_to(deadline)
            raise DeadlineExceeded(f"{seconds:g} s are more than the deadline allows")
        self._clock.advance_to(over)
        return survives
