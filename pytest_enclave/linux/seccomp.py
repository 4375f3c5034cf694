"""The filter of system calls for services: a program for the kernel (classic BPF), much like Docker's default.

What no service needs is refused with EPERM, whatever the capabilities are. Most calls are not looked at any closer:
the kernel finds out once that they are always allowed.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from pytest_enclave.linux import refused_calls
from pytest_enclave.linux.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    call,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

NEW_NAMESPACES = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_NEWTIME
)

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux with 64 and 32 bits, each also with the release told as 2.6; and the question which one it is."""

FOREIGN_SOCKETS = (38, 40)
"""AF_ALG, the kernel's cryptography, and AF_VSOCK, the way to the machine's hypervisor: in no network namespace."""

X32 = 0x40000000
"""Calls of the x32 architecture have this bit in their number."""

_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_KILL_PROCESS, _ERRNO, _ALLOWED = 0x80000000, 0x00050000, 0x7FFF0000
_SET_FILTER, _NO_SPECULATION_CONTROL = 1, 4
_LONGEST_JUMP = 255


def install(program: bytes | None = None) -> None:
    """Filter the calls of this thread and of what it starts, for good; with the filter for this machine by default.

    After no_new_privs is set. Raises OSError.
    """
    from ctypes import create_string_buffer

    program = build(os.uname().machine) if program is None else program
    instructions = create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, _address(instructions))
    number = refused_calls.SECCOMP[_row(os.uname().machine)[0]]
    call("seccomp", number, _SET_FILTER, _NO_SPECULATION_CONTROL, create_string_buffer(described, len(described)))


def build(machine: str, one_user: bool = False) -> bytes:
    """The filter for a machine, named as by `uname -m`. Raises OSError (ENOSYS) for one that is not known.

    With `one_user`, changing the user or an owner succeeds and does nothing: there is nobody else to become, and most
    programs that give up root do not mind to stay the only user there is.
    """
    column, architecture = _row(machine)
    allowed, refused, unknown = _return(_ALLOWED), _return(_ERRNO | errno.EPERM), _return(_ERRNO | errno.ENOSYS)
    actions = {row[column]: refused for row in refused_calls.REFUSED.values()}
    if one_user:
        actions.update((row[column], _return(_ERRNO)) for row in refused_calls.IDENTITY.values())
    actions[refused_calls.CLONE[column]] = actions[refused_calls.UNSHARE[column]] = _refuse_namespaces()
    actions[refused_calls.CLONE3[column]] = unknown
    actions[refused_calls.PERSONALITY[column]] = _first_argument(PERSONALITIES, allowed, refused)
    actions[refused_calls.SOCKET[column]] = _first_argument(FOREIGN_SOCKETS, refused, allowed)
    starts: list[tuple[int, bytes]] = [(0, allowed)]
    for number in sorted(each for each in actions if each is not None):
        starts = [*starts[: -1 if starts[-1][0] == number else None], (number, actions[number]), (number + 1, allowed)]
    # Newer calls than were reviewed, among them all of x32: a program takes it for an older kernel.
    starts.append((refused_calls.NEWEST + 1, unknown))
    return b"".join(
        (
            _instruction(_LOAD, _ARCHITECTURE),
            _instruction(_EQUAL, architecture, 1, 0),
            _return(_KILL_PROCESS),
            _instruction(_LOAD, _NUMBER),
            _tree(_merged(starts)),
        )
    )


def _merged(starts: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Neighbours with the same action as one."""
    return [each for at, each in enumerate(starts) if at == 0 or each[1] != starts[at - 1][1]]


def _tree(starts: Sequence[tuple[int, bytes]]) -> bytes:
    """Code that finds the action of a number by halving. Each action holds from its start up to the next one's."""
    if len(starts) == 1:
        return starts[0][1]
    middle = len(starts) // 2
    below, above = _tree(starts[:middle]), _tree(starts[middle:])
    distance = len(below) // 8
    if distance <= _LONGEST_JUMP:
        return _instruction(_AT_LEAST, starts[middle][0], distance, 0) + below + above
    return _instruction(_AT_LEAST, starts[middle][0], 0, 1) + _instruction(_JUMP, distance) + below + above


def _refuse_namespaces() -> bytes:
    return b"".join(
        (
            _instruction(_LOAD, _FIRST_ARGUMENT),
            _instruction(_ANY_BIT, NEW_NAMESPACES, 1, 0),
            _return(_ALLOWED),
            _return(_ERRNO | errno.EPERM),
        )
    )


def _first_argument(values: Sequence[int], listed: bytes, other: bytes) -> bytes:
    """One action if the first argument, of 32 bits, is among the values, and another one if not."""
    tests = (_instruction(_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values))
    return b"".join((_instruction(_LOAD, _FIRST_ARGUMENT), *tests, other, listed))


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _return(action: int) -> bytes:
    return _instruction(_RETURN, action)


def _row(machine: str) -> tuple[int, int]:
    row = refused_calls.MACHINES.get(machine)
    if row is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, "there is a filter of system calls for x86_64 and aarch64 only", machine)
    return row


def _address(buffer: object) -> int:
    from ctypes import addressof

    return addressof(buffer)  # type: ignore[arg-type]
