"""What is forked from init to do something in a running service: a command, or reading its files."""

from __future__ import annotations

import fcntl
import os
import signal
import tarfile
import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.body import ProgramError, Rights, StartError, execute
from pytest_enclave.engine.embedded.inside.file_rights import TarFile
from pytest_enclave.engine.embedded.inside.users import User
from pytest_enclave.linux import syscalls

JOINED = ("ipc", "uts", "net", "mnt", "user")
"""The namespaces a command enters; that of its process id is entered before the fork. A user namespace comes last: it
takes away the right to enter others."""


def become_command(
    spec: dict[str, Any],
    rights: Rights,
    namespaces: dict[str, int],
    argv: list[str],
    user: User,
    streams: Sequence[int],
    terminal: dict[str, str] | None = None,
) -> NoReturn:
    """Run a command in a service's namespaces, with its environment, rights and limits.

    If it cannot be executed, that is its output, with the shell's exit code. `streams` are its output and its input, if
    it has one. With `terminal`, variables for it, its controlling terminal is the first, and its input as well.
    """
    output = streams[0]
    code = 126
    try:
        for path in spec["cgroups"]:
            with open(path, "w") as members:
                members.write("0")
        for name in JOINED:
            if name in namespaces:
                syscalls.setns(namespaces[name])
        # A session of its own, so that all of it can be killed at its deadline, or with its terminal.
        os.setsid()
        if terminal is None:
            source = streams[1] if len(streams) > 1 else os.open("/dev/null", os.O_RDONLY)
            environment = spec["env"]
        else:
            source, environment = output, {**spec["env"], **terminal}
            fcntl.ioctl(output, termios.TIOCSCTTY, 0)
            # The service's user may want to open it by its name.
            with suppress(OSError):
                os.fchown(output, user.uid, user.gid)
        os.dup2(source, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        output = 2
        syscalls.close_others()
        execute({**spec, "argv": argv, "env": environment}, rights, user)
    except ProgramError as error:
        code = error.code
        os.write(output, f"{error}\n".encode())
    except (StartError, OSError) as error:
        os.write(output, f"{error}\n".encode())
    finally:
        os._exit(code)


def become_reader(mount_namespace: int, path: str, stream: int, report: Channel) -> NoReturn:
    """Write a tar of a file or directory, as seen from inside of a service, which need not run any more."""
    # Names of users would be looked up by the C library, with settings and code from inside of the service.
    tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        syscalls.setns(mount_namespace)
        real = os.path.realpath(path if path.startswith("/") else f"/{path}")
        os.lstat(real)
        report.send({})
        report.close()
        with (
            open(stream, "wb", buffering=0) as sink,
            TarFile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.add(real, arcname=os.path.basename(real) or ".")
    except BaseException as error:
        if report.fileno() >= 0:
            report.send({"error": getattr(error, "strerror", None) or str(error)})
    finally:
        os._exit(0)
