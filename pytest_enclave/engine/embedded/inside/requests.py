"""What clients ask of init, and the answers."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.children import fork_into, signal_session
from pytest_enclave.engine.embedded.inside.commands import become_command, become_reader
from pytest_enclave.engine.embedded.inside.freezing import Freezing
from pytest_enclave.engine.embedded.inside.service import Service
from pytest_enclave.engine.embedded.inside.steps import become_collector, become_putter

if TYPE_CHECKING:
    from pytest_enclave.engine.embedded.inside.init import Init

STOP_GRACE = 1.0
"""Seconds that a service has to end when it is asked to."""

CONNECT_TIME = 1.0
"""Seconds after which a connection that is neither accepted nor refused counts as refused."""

CHANGES = ("start", "act", "adopt", "freeze")
"""Requests that start or end services. While these are frozen, they have to wait."""

Answer = Callable[[dict[str, Any]], None]


class Way:
    """Where a port is reached from outside. `users` are the clients that know; with the last one it goes, unless it is
    at a public number: those are the service's own."""

    __slots__ = ("endpoint", "public", "users")

    def __init__(self, endpoint: list[Any], public: bool) -> None:
        self.endpoint = endpoint
        self.public = public
        self.users: set[int] = set()


class Requests:
    """Answers every request exactly once, now or later."""

    def __init__(self, init: Init) -> None:
        self._init = init
        self._loop = init.loop
        self._commands: dict[tuple[int, int], int] = {}
        self._hung_up: set[tuple[int, int]] = set()
        self._ways: dict[str, Way] = {}
        self._frozen: dict[str, Any] | None = None
        self._flushing: dict[str, list[Callable[[], None]]] = {}
        self._freezing = False
        self._postponed: list[tuple[int, dict[str, Any]]] = []
        self._loop.watch(init.keeper.fileno(), self._hear_keeper)

    def answer(self, client: int, message: dict[str, Any], descriptors: list[int]) -> None:
        """Do what a message asks for. Its descriptors are closed in the end."""
        if self._freezing and message["do"] in CHANGES:
            # They have no descriptors.
            self._postponed.append((client, message))
            return
        number = message.get("id")

        def tell(reply: dict[str, Any], *passed: int) -> None:
            self._init.send(client, {"id": number, **reply}, passed)

        if "lost" in message:
            tell({"error": "Too many open files in the enclave", "kind": "system"})
            return
        try:
            handler = getattr(self, f"_do_{message['do']}")
            handler(client, message, descriptors, tell)
        except ConnectionError:
            # One of the enclave's processes is gone, and so will be the enclave.
            pass
        except Exception as error:
            tell({"error": _words(error), "kind": "absent" if isinstance(error, ProcessLookupError) else "system"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def left(self, client: int) -> None:
        """A client has gone: what it alone needed goes too."""
        for key, way in list(self._ways.items()):
            way.users.discard(client)
            if not way.users and not way.public:
                self._drop_ways(key)
        for owner, number in list(self._commands):
            if owner == client:
                self._kill_command(owner, number)

    def _do_tenure(self, client: int, _message: dict[str, Any], descriptors: list[int], tell: Answer) -> None:
        """The client's process, and the one that the enclave is there for from now on."""
        process, holder = map(os.dup, descriptors)
        self._init.accompany(client, process)
        self._init.tenure.pass_to(holder)
        tell({})

    def _do_keep(self, _client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        self._init.tenure.keep(message["until"])
        tell({})

    def _do_reserve(self, _client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        tell({"ip": self._init.service(message["name"]).address})

    def _do_observe(self, _client: int, _message: dict[str, Any], _: list[int], tell: Answer) -> None:
        # Whoever asks may have seen that one has ended (`Ends`).
        self._loop.reap()
        tell({"services": {name: service.state() for name, service in self._init.services.items()}})

    def _do_start(self, client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """Start a service from a spec, in place of what has its name."""
        spec = message["spec"]
        service = self._init.service(spec["name"])
        if service.status == "starting":
            tell({"error": "it is being started already", "kind": "start"})
        elif service.alive:
            # Another one may replace it too, and be faster.
            service.kill(lambda: self.answer(client, message, []))
        else:
            if service.status != "absent":
                service.discard()
                self._clear_log(service)
                # The new one may have none, or others.
                self._drop_ways(f"{service.name}:", public=True)
            self._start(service, spec, tell)

    def _start(self, service: Service, spec: dict[str, Any], tell: Answer) -> None:
        try:
            writer = self._follow(service)
        except OSError as error:
            tell({"error": str(error), "kind": "system"})
            return
        service.start(spec, writer, tell)

    def _follow(self, service: Service) -> int:
        """A descriptor to write to what is to be in the service's log."""
        directory = self._init.log_directory(service)
        os.makedirs(directory, exist_ok=True)
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            reader, writer = os.pipe()
            # If the keeper is gone, init will soon know.
            with suppress(ConnectionError):
                self._init.keeper.send({"do": "follow", "key": service.name}, [reader, place])
            os.close(reader)
        finally:
            os.close(place)
        return writer

    def _do_act(self, client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        service = self._init.services.get(message["name"])
        action = message["action"]
        if service is None or service.status == "absent":
            tell({} if action == "remove" else {"error": "there is none", "kind": "absent"})
        elif action == "remove" and service.alive:
            service.kill(lambda: self.answer(client, message, []))
        elif action == "remove":
            self._remove(service, tell)
        elif action == "kill":
            service.kill(lambda: tell({}))
        elif action == "stop":
            service.stop(STOP_GRACE, lambda: tell({}))
        elif action == "start":
            if service.alive:
                tell({})
            else:
                self._start(service, service.spec, tell)
        elif service.status == "starting":
            # Stopped where it is now, it would never have started.
            service.when_started(lambda: self.answer(client, message, []))
        elif not service.alive:
            tell({"error": "does not run", "kind": "ended"})
        else:
            (service.pause if action == "pause" else service.resume)()
            tell({})

    def _remove(self, service: Service, tell: Answer) -> None:
        service.discard()
        self._init.forget(service.name)
        self._drop_ways(f"{service.name}:")
        self._clear_log(service)
        tell({})

    def _do_shape(self, client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """Say how packets travel between services."""
        services = self._init.services
        unknown = next((name for pair in message["connections"] for name in pair[:2] if name not in services), None)
        starting = next((service for service in services.values() if service.status == "starting"), None)
        if unknown is not None:
            tell({"error": f'there is no service "{unknown}", and no address for one', "kind": "absent"})
        elif starting is not None:
            # Its link may be about to be joined to the bridge that it was to be on so far.
            starting.when_started(lambda: self.answer(client, message, []))
        else:
            try:
                self._init.network.shape(message["connections"], message["seed"])
            finally:
                self._init.tell_shape()
            tell({})

    def _do_unrelay(self, _client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """Let the ways to a service's ports be made anew. Answers whether there were any."""
        tell({"dropped": self._drop_ways(f"{message['name']}:")})

    def _drop_ways(self, prefix: str, public: bool = False) -> bool:
        """Drop those that begin so, or the public ones of them only; whether there were any."""
        keys = [key for key, way in self._ways.items() if key.startswith(prefix) and (way.public or not public)]
        for key in keys:
            del self._ways[key]
            with suppress(ConnectionError):
                self._init.relay.send({"do": "drop_service", "prefix": key})
        return bool(keys)

    def _clear_log(self, service: Service) -> None:
        directory = self._init.log_directory(service)
        with suppress(OSError):
            for entry in os.listdir(directory):
                os.unlink(f"{directory}/{entry}")

    def _do_exec(self, client: int, message: dict[str, Any], descriptors: list[int], tell: Answer) -> None:
        """Run a command; its output goes to the descriptor. Answers with `code` when it has ended.

        With `terminal`, variables for the command, the descriptor is its terminal. Otherwise a second one is its input.
        """
        service = self._running(message["name"])
        child = fork_into(service.namespaces["pid"])
        if child == 0:
            become_command(
                service.spec,
                self._init.rights,
                service.namespaces,
                message["argv"],
                service.user,
                descriptors,
                message.get("terminal"),
            )
        key = client, message["id"]
        self._commands[key] = child

        def ended(status: int) -> None:
            del self._commands[key]
            if key in self._hung_up:
                self._hung_up.remove(key)
                signal_session(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(status)
            tell({"code": code if code >= 0 else 128 - code})

        self._loop.when_ended(child, ended)

    def _do_cancel(self, client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """Kill a command and what it has started."""
        self._kill_command(client, message["command"])
        tell({})

    def _do_hang_up(self, client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """The terminal of a command is gone: it and its jobs are told, and when it has ended, so have these."""
        key = client, message["command"]
        if key in self._commands:
            self._hung_up.add(key)
            signal_session(self._commands[key], signal.SIGHUP)
        tell({})

    def _kill_command(self, client: int, number: int) -> None:
        child = self._commands.get((client, number))
        if child is not None:
            signal_session(child, signal.SIGKILL)
            # It may not have a session yet.
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)

    def _do_read(self, _client: int, message: dict[str, Any], descriptors: list[int], tell: Answer) -> None:
        """Write a tar of a path inside a service to the descriptor. Answers before, when it is known to be there."""
        service = self._init.services.get(message["name"])
        if service is None or "mnt" not in service.namespaces:
            tell({"error": "no such service", "kind": "absent"})
            return
        space = service.namespaces["mnt"]
        self._fork_telling(lambda report: become_reader(space, message["path"], descriptors[0], report), tell)

    def _do_hold(self, _client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """A service that runs nothing: there are but its files."""
        service = self._init.service(message["spec"]["name"])
        service.adopt(message["spec"], os.open(os.devnull, os.O_WRONLY), "stopped", None, tell)

    def _do_put(self, _client: int, message: dict[str, Any], descriptors: list[int], tell: Answer) -> None:
        """Put the files of a tar, read from the descriptor, into a service that is held."""
        space = self._running_or_ended(message["name"]).namespaces["mnt"]
        self._fork_telling(lambda report: become_putter(space, message, descriptors[0], report), tell)

    def _do_changes(self, _client: int, message: dict[str, Any], descriptors: list[int], tell: Answer) -> None:
        """Write a tar of what a service has changed to the descriptor. Answers before."""
        upper = f"{self._running_or_ended(message['name']).upper}/upper"
        self._fork_telling(lambda report: become_collector(upper, descriptors[0], report), tell)

    def _fork_telling(self, become: Callable[[Channel], NoReturn], tell: Answer) -> None:
        """Fork a process, and pass on what it tells on its channel."""
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            become(Channel(theirs))
        theirs.close()
        report = Channel(ours)

        def reported() -> None:
            try:
                for reply, _ in report.arrived():
                    tell(reply)
            except EOFError:
                tell({"error": "it was killed"})
            self._loop.forget(report.fileno())
            report.close()

        self._loop.watch(report.fileno(), reported)

    def _do_logs(self, _client: int, message: dict[str, Any], _: list[int], tell: Callable[..., None]) -> None:
        """The directory of a service's log, when everything that it has written by now is in it."""
        service = self._init.services.get(message["name"])
        if service is None or service.status == "absent":
            tell({"error": "no such service", "kind": "absent"})
            return

        def flushed() -> None:
            try:
                place = os.open(self._init.log_directory(service), os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                tell({"error": str(error), "kind": "system"})
                return
            try:
                tell({}, place)
            finally:
                os.close(place)

        self._flushing.setdefault(service.name, []).append(flushed)
        self._init.keeper.send({"do": "flush", "key": service.name})

    def _hear_keeper(self) -> None:
        try:
            for message, _ in self._init.keeper.arrived():
                if message["event"] == "flushed":
                    for flushed in self._flushing.pop(message["key"], []):
                        flushed()
        except EOFError:
            self._loop.forget(self._init.keeper.fileno())

    def _do_accepts(self, _client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """Whether something accepts connections on a port."""
        service = self._init.services.get(message["name"])
        if service is None or not service.alive:
            tell({"accepts": False})
            return
        attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        done = attempt.connect_ex((service.address, message["port"]))
        if done != errno.EINPROGRESS:
            attempt.close()
            tell({"accepts": done == 0})
            return

        def finish() -> None:
            if attempt.fileno() < 0:
                return
            accepted = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and _connected(attempt)
            self._loop.forget(attempt.fileno())
            attempt.close()
            tell({"accepts": accepted})

        self._loop.watch(attempt.fileno(), finish, writable=True)
        self._loop.after(CONNECT_TIME, finish)

    def _do_relay(self, client: int, message: dict[str, Any], descriptors: list[int], tell: Answer) -> None:
        """Where a port is reached from outside; nothing if there is no way yet and no listener was brought.

        A `public` one takes the place of what another client may have made meanwhile.
        """
        service = self._running_or_ended(message["name"])
        key = f"{service.name}:{message['port']}/{message['protocol']}"
        public = message.get("public", False)
        if descriptors and (public or key not in self._ways):
            self._ways[key] = Way(message["endpoint"], public)
            target = [service.address, message["port"]]
            self._init.relay.send(
                {"do": "listen", "key": key, "protocol": message["protocol"], "to": target}, descriptors
            )
        way = self._ways.get(key)
        if way is not None:
            way.users.add(client)
        tell({"endpoint": way and way.endpoint})

    def _do_freeze(self, _client: int, _message: dict[str, Any], _: list[int], tell: Callable[..., None]) -> None:
        """Make what is there now what forks begin with; until that is done, no service is started or ended."""
        self._freezing = True

        def frozen(answer: dict[str, Any]) -> None:
            self._freezing = False
            answer["shape"] = self._init.network.told()
            self._tell_frozen(answer, tell)
            postponed, self._postponed = self._postponed, []
            for client, message in postponed:
                self.answer(client, message, [])

        Freezing(self._init, self._start, frozen).begin()

    def _tell_frozen(self, answer: dict[str, Any], tell: Callable[..., None]) -> None:
        """With what a fork needs besides: this enclave's user and mount namespaces."""
        try:
            spaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in ("user", "mnt")]
        except OSError as failure:
            tell({"error": str(failure), "kind": "system"})
            return
        if "error" not in answer:
            self._frozen = answer
        tell({**answer, "files": self._init.plan["files"]}, *spaces)
        for descriptor in spaces:
            os.close(descriptor)

    def _do_frozen(self, _client: int, _message: dict[str, Any], _: list[int], tell: Callable[..., None]) -> None:
        """What forks begin with, as whoever has frozen it was told."""
        if self._frozen is None:
            tell({"error": "it has not been frozen", "kind": "unfrozen"})
        else:
            self._tell_frozen(self._frozen, tell)

    def _do_adopt(self, _client: int, message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """In a fork: a service as its origin had it."""
        spec = message["spec"]
        service = self._init.reserve(spec["name"], message["number"])
        if message["status"] == "running":
            self._start(service, spec, tell)
        elif message["status"] == "paused":

            def started(outcome: dict[str, Any]) -> None:
                if not outcome and service.alive:
                    service.pause()
                tell(outcome)

            self._start(service, spec, started)
        else:
            null = os.open(os.devnull, os.O_WRONLY)
            service.adopt(spec, null, message["status"], message["exit"], tell)

    def _do_egress(self, _client: int, _message: dict[str, Any], _: list[int], tell: Answer) -> None:
        """What services' way out is, `by` whom; None and a `reason` where there is none."""
        self._init.egress.ask(tell)

    def _do_close(self, client: int, _message: dict[str, Any], _: list[int], tell: Answer) -> None:
        self._init.end("another process has removed it", but=client)

    def _running(self, name: str) -> Service:
        service = self._init.services.get(name)
        if service is None or not service.alive or "pid" not in service.namespaces:
            raise ProcessLookupError(errno.ESRCH, "does not run")
        return service

    def _running_or_ended(self, name: str) -> Service:
        service = self._init.services.get(name)
        if service is None or service.status == "absent":
            raise ProcessLookupError(errno.ESRCH, "no such service")
        return service


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return error.strerror
    return str(error) or type(error).__name__


def _connected(attempt: socket.socket) -> bool:
    try:
        attempt.getpeername()
    except OSError:
        return False
    return True
