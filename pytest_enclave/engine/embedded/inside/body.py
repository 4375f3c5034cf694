"""The process of a service, from the fork to its own program. It is PID 1 of a new PID namespace already."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from typing import Any, NoReturn

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.frames import mac_of
from pytest_enclave.engine.embedded.inside.root import Storage, enter_root
from pytest_enclave.engine.embedded.inside.users import User, find_user
from pytest_enclave.linux import capabilities, seccomp, syscalls
from pytest_enclave.linux.netlink import Netlink

BRIDGE = "br0"
GATEWAY = "10.77.0.1"
PREFIX = 16

NAMES_ADDRESS = "127.0.0.11"
"""Where a service asks for names: as in Docker's networks, for there are programs that have it in their settings."""

OWN_NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS

MOST_FILES = 1 << 20


class StartError(Exception):
    """A service cannot be started; the text says why."""


def become_service(
    spec: dict[str, Any],
    rights: Rights,
    storage: Storage,
    upper: str,
    link: str,
    bridge: str,
    output: int,
    report: socket.socket,
) -> NoReturn:
    """Enter namespaces of its own, build the root directory, and execute the program.

    On `report` go the namespaces, as descriptors, and the sockets for names; then its end means that the program
    runs, unless an error is told before. `link` names the enclave's end of the service's network link, which is joined
    to the bridge.
    """
    channel = Channel(report)
    try:
        for path in spec["cgroups"]:
            with open(path, "w") as members:
                members.write("0")
        with Netlink() as outer:
            syscalls.unshare(OWN_NAMESPACES)
            _connect(outer, link, bridge, spec["ip"])
        names = _name_sockets()
        syscalls.set_hostname(spec["name"])
        enter_root(storage, upper, spec)
        user = find_user(spec["user"])
        nested = rights.one_uid and _nested_user(user)
        spaces = ("mnt", "net", "ipc", "uts", "pid", *(("user",) if nested else ()))
        descriptors = [os.open(f"/proc/self/ns/{space}", os.O_RDONLY) for space in spaces]
        told = {"namespaces": list(spaces), "user": [user.uid, user.gid, user.groups, user.home]}
        channel.send(told, [*descriptors, *(each.fileno() for each in names)])
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Whatever else is open belongs to the enclave, and leads out of the service.
        syscalls.close_others(channel.fileno())
        execute(spec, rights, user)
    except BaseException as error:
        channel.send({"error": str(error) or type(error).__name__, "kind": kind_of(error)})
    os._exit(127)


def hold_files(spec: dict[str, Any], storage: Storage, upper: str, report: socket.socket) -> NoReturn:
    """Make the root directory of a service that has ended, so that its files can be read, and execute nothing."""
    channel = Channel(report)
    try:
        syscalls.unshare(OWN_NAMESPACES)
        enter_root(storage, upper, spec)
        channel.send({"namespaces": ["mnt"], "user": [0, 0, [], "/"]}, [os.open("/proc/self/ns/mnt", os.O_RDONLY)])
    except BaseException as error:
        channel.send({"error": str(error) or type(error).__name__, "kind": kind_of(error)})
    os._exit(0)


def kind_of(error: BaseException) -> str:
    """What sort of failure it is, for those who have to find words for it."""
    if isinstance(error, ProgramError):
        return "not executable" if error.code == 126 else "not found"
    return "start" if isinstance(error, (StartError, LookupError)) else "system"


class Rights:
    """What services may do: the filter of system calls, and whether there is one user id only."""

    __slots__ = ("one_uid", "program")

    def __init__(self, one_uid: bool) -> None:
        self.one_uid = one_uid
        self.program = seccomp.build(os.uname().machine, one_user=one_uid)


class ProgramError(Exception):
    """A program cannot be executed. `code` is the shell's exit code for it: 127 if it is not there, 126 else."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def execute(spec: dict[str, Any], rights: Rights, user: User) -> NoReturn:
    """Give up all rights that a service does not have, and execute its program. Raises ProgramError."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **spec["env"]}
    environment.setdefault("HOME", user.home)
    environment.setdefault("HOSTNAME", spec["name"])
    if not spec["argv"]:
        raise ProgramError("the image names no program to run, and the service none either", 127)
    _enter_directory(spec["directory"])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MOST_FILES) if hard > 0 else soft, hard))
    # What is ignored stays so over execve.
    for number in (signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # Until the program is executed, other processes of the service have the same rights, and must not look into us.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    _drop_rights(user, rights)
    _execute_first(spec["argv"], environment)


def _drop_rights(user: User, rights: Rights) -> None:
    """Become the user, with no more rights than Docker gives; nothing executed later can gain any."""
    if rights.one_uid:
        # Entering the user namespace of an image's user takes the bounds away that init has set.
        capabilities.bound(capabilities.DOCKER_DEFAULT)
    capabilities.hold_only(capabilities.DOCKER_DEFAULT)
    if not rights.one_uid:
        try:
            os.setgroups(user.groups)
            os.setgid(user.gid)
            os.setuid(user.uid)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise StartError(
                f"its user {user.uid}:{user.gid} is beyond the ids that this machine gives to us"
            ) from None
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(rights.program)


def _connect(outer: Netlink, link: str, bridge: str, address: str) -> None:
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        master = outer.index(bridge)
        with outer.together():
            outer.veth(link, "eth0", peer_namespace_fd=own, peer_mac=mac_of(address), master=master)
            outer.up(link)
    finally:
        os.close(own)
    with Netlink() as inner, inner.together():
        inner.up("lo")
        inner.address("eth0", address, PREFIX)
        inner.up("eth0")
        inner.gateway(GATEWAY)


def _name_sockets() -> tuple[socket.socket, socket.socket]:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((NAMES_ADDRESS, 53))
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    stream.bind((NAMES_ADDRESS, 53))
    stream.listen(16)
    return datagrams, stream


def _nested_user(user: User) -> bool:
    """Where there is a single user id, see it as the image's own: a user namespace that maps that one to ours."""
    if user.uid == 0 and user.gid == 0:
        return False
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user.uid} 0 1"),
        ("gid_map", f"{user.gid} 0 1"),
    ):
        with open(f"/proc/self/{name}", "w") as setting:
            setting.write(text)
    return True


def _enter_directory(path: str) -> None:
    """Docker makes a working directory that the image does not have."""
    try:
        os.makedirs(path, exist_ok=True)
        os.chdir(path)
    except OSError as error:
        raise StartError(f'its working directory "{path}" cannot be entered: {error.strerror}') from None


def _execute_first(argv: list[str], environment: dict[str, str]) -> NoReturn:
    """Execute the first program of that name on PATH."""
    program = argv[0]
    if "/" in program:
        candidates = [program]
    else:
        candidates = [f"{part or '.'}/{program}" for part in environment["PATH"].split(":")]
    refused: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, argv, environment)
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.exists(path):
                # A script whose interpreter is missing, or a program whose loader is.
                refused = refused or error
        except OSError as error:
            refused = refused or error
    if isinstance(refused, (FileNotFoundError, NotADirectoryError)):
        raise ProgramError(f'"{program}": its interpreter or loader is not in the image', 127)
    if refused is not None:
        raise ProgramError(f'"{program}": {(refused.strerror or "cannot be executed").lower()}', 126)
    if "/" in program:
        raise ProgramError(f'"{program}": no such file or directory', 127)
    raise ProgramError(f'"{program}": executable file not found in $PATH', 127)
