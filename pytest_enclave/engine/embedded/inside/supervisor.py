"""The supervisor of an enclave: the part of it that stays outside.

Theory of operation
-------------------
    supervisor ── boot ── init (PID 1 of the enclave) ── services, commands, keeper, relay, names

* *boot* enters (or, for a fork of another enclave, joins) a user and a mount namespace, unshares the others, forks
  *init*, and waits for it. The supervisor writes boot's maps of user ids, as that takes rights that boot has given up.
* Everything of the enclave is a descendant of init, in its PID namespace: when init ends, for whatever reason, the
  kernel ends all of them, and with them go their mounts, links, and the memory that their files were in.
* Init ends when its last client is gone and nobody holds the enclave; so test processes may be killed at any moment.
  Boot and init are killed by the kernel if the supervisor dies (`PR_SET_PDEATHSIG`; both are forked by single-threaded
  parents that wait for them).
* What then is left is outside: the directory with the socket, storage on disk where the kernel needs it, cgroups. The
  supervisor removes these, tells what it could not remove to whoever opened the enclave, and ends. Where nobody has
  asked for the end, as all were killed, it removes the enclave's home as well.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.egress import Egress
from pytest_enclave.engine.embedded.inside.init import Init
from pytest_enclave.engine.embedded.inside.leftovers import Leftovers, make_directory, remove_home
from pytest_enclave.linux import identity, mounts, syscalls

NEW_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWPID
)

LEFT = 11
"""What init ends with, and so boot, where nobody has asked for the end."""

LONGEST_TRACE = 4000
"""Characters of what the enclave's processes wrote on their standard error that are told when init ends by an error."""


def supervise(plan: dict[str, Any], descriptors: list[int]) -> None:
    """Run an enclave to its end, and never return.

    `descriptors`: the first client's connection; where to tell the end (one JSON object: `leaks`, `error`); the first
    client's process, and the one that the enclave is held by; then, for a fork, the user and the mount namespace of its
    origin.
    """
    lease, end, client, holder, *origin = descriptors
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        trace = _own_standard_streams()
        code = _supervise(plan, (lease, client, holder), end, origin, trace)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _own_standard_streams() -> int:
    """Detach from the test process's streams. What is written on standard error is kept in memory, to be told."""
    null = os.open(os.devnull, os.O_RDWR)
    # Some builds of Python lack the first.
    made = getattr(os, "memfd_create", None)
    trace = made("trace") if made is not None else os.open("/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(trace, 2)
    os.close(null)
    return trace


def _supervise(plan: dict[str, Any], clients: tuple[int, int, int], end: int, origin: list[int], trace: int) -> int:
    egress = Egress(plan["name"], plan.get("egress"))
    leftovers = None
    status = 1
    ids = identity.own_map()
    plan["one_uid"] = ids.kind == "single"
    try:
        # Open in all of its processes.
        make_directory(plan["directory"], plan["home"])
        # Not before: what somebody else has made is not ours to remove.
        leftovers = Leftovers(plan["name"], plan["directory"], plan["files"], plan["home"])
        leftovers.record()
        plan["cgroups"] = leftovers.cgroups
        listener = _listen(plan["directory"])
        ours, theirs = socket.socketpair()
        boot = os.fork()
        if boot == 0:
            ours.close()
            os.close(end)
            _boot(plan, clients, listener, origin, theirs, egress.init)
        theirs.close()
        listener.close()
        for descriptor in (*clients, *origin):
            os.close(descriptor)
        if ours.recv(1):
            identity.write_maps(boot, ids)
            ours.send(b".")
        _wait(boot, egress)
        status = os.waitstatus_to_exitcode(os.waitpid(boot, 0)[1])
        error = "" if status in (0, LEFT) else _told(trace, status)
    except Exception as failure:
        # Whatever it was, nothing may stay behind.
        error = str(failure) or type(failure).__name__
    leaks = [*egress.close(), *(leftovers.remove() if leftovers is not None else ())]
    # Whoever opened the enclave may be gone.
    with suppress(OSError):
        os.write(end, json.dumps({"leaks": leaks, "error": error}).encode())
    os.close(end)
    if status == LEFT and plan["home"] and not leaks:
        remove_home(plan["home"])
    egress.remove()
    return 0


def _wait(boot: int, egress: Egress) -> None:
    """Wait for the end of boot; meanwhile see to the way out."""
    end = os.pidfd_open(boot)
    poll = select.poll()
    poll.register(end, select.POLLIN)
    if (request := egress.begin()) is not None:
        poll.register(request, select.POLLIN)
    while end not in (ready := [descriptor for descriptor, _ in poll.poll()]):
        if request in ready and not egress.turn(boot):
            poll.unregister(request)
    os.close(end)


def _listen(directory: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The path of a socket may have 107 bytes only.
    os.chdir(directory)
    listener.bind("socket")
    os.chdir("/")
    listener.listen(64)
    return listener


def _told(trace: int, status: int) -> str:
    size = os.fstat(trace).st_size
    text = os.pread(trace, LONGEST_TRACE, max(0, size - LONGEST_TRACE)).decode(errors="replace").strip()
    return text or f"the enclave's first process ended with {status}"


def _boot(
    plan: dict[str, Any],
    clients: tuple[int, int, int],
    listener: socket.socket,
    origin: list[int],
    parent: socket.socket,
    egress: socket.socket | None,
) -> None:
    """Enter the namespaces, fork init, wait for it. Never returns."""
    code = 1
    try:
        if origin:
            parent.close()
            for namespace in origin:
                syscalls.setns(namespace)
                os.close(namespace)
        else:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            parent.send(b".")
            if not parent.recv(1):
                raise OSError("the supervisor could not map user ids")
            parent.close()
        # Entering a user namespace clears it, so not before.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.unshare(NEW_NAMESPACES)
        child = os.fork()
        if child == 0:
            _init(plan, clients, listener, bool(origin), egress)
        for descriptor in clients:
            os.close(descriptor)
        listener.close()
        if egress is not None:
            egress.close()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException as error:
        _tell(clients[0], error)
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _init(
    plan: dict[str, Any],
    clients: tuple[int, int, int],
    listener: socket.socket,
    forked: bool,
    egress: socket.socket | None,
) -> None:
    code = 1
    lease, client, holder = clients
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        mounts.private_root()
        mounts.proc("/proc")
        init = Init(plan, socket.socket(fileno=lease), listener, forked, egress, client, holder)
        code = LEFT if init.run() else 0
    except BaseException as error:
        _tell(lease, error)
    finally:
        os._exit(code)


def _tell(lease: int, error: BaseException) -> None:
    """Tell the first client that there will be no enclave, and the supervisor why."""
    traceback.print_exc(file=sys.stderr)
    sys.stderr.flush()
    with suppress(OSError), socket.socket(fileno=os.dup(lease)) as connection:
        Channel(connection).send({"event": "failed", "error": f"{type(error).__name__}: {error}"})
