from __future__ import annotations

import os
import struct

import pytest

from pytest_enclave.linux import refused_calls, seccomp
from tests.linux.child import run

ALLOWED, EPERM, ENOSYS, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000

X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003

START = """
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install()
"""


def outcome(machine: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the filter returns: a reading of the program as the kernel does it."""
    program = list(struct.iter_unpack("=HBBI", seccomp.build(machine)))
    data = struct.pack("=IIQQ", number, architecture or {"x86_64": X86_64, "aarch64": AARCH64}[machine], 0, argument)
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return value
        elif code == 0x05:
            at += value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_exactly_what_is_listed_is_refused(machine: str, column: int):
    special = {
        table[column]
        for table in (
            refused_calls.CLONE,
            refused_calls.UNSHARE,
            refused_calls.CLONE3,
            refused_calls.PERSONALITY,
            refused_calls.SOCKET,
        )
    }
    refused = {row[column] for row in refused_calls.REFUSED.values()}
    for number in range(refused_calls.NEWEST + 1):
        if number not in special:
            assert outcome(machine, number) == (EPERM if number in refused else ALLOWED), number


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_is_newer_than_the_list_is_unknown(machine: str):
    for number in (refused_calls.NEWEST + 1, 1000, 0x40000000, 0x40000000 + 39, 0xFFFFFFFF):
        assert outcome(machine, number) == ENOSYS


@pytest.mark.parametrize(
    ("machine", "clone", "unshare", "clone3"), [("x86_64", 56, 272, 435), ("aarch64", 220, 97, 435)]
)
def test_no_call_makes_a_namespace(machine, clone, unshare, clone3):
    for bit in (17, 25, 26, 27, 28, 29, 30):
        assert outcome(machine, clone, 1 << bit | 17) == EPERM
        assert outcome(machine, unshare, 1 << bit) == EPERM
    assert outcome(machine, clone, 0x003D0F00) == ALLOWED
    assert outcome(machine, clone, 17) == ALLOWED
    assert outcome(machine, unshare, 0x400) == ALLOWED
    assert outcome(machine, clone3) == ENOSYS


@pytest.mark.parametrize(("machine", "personality", "socket"), [("x86_64", 135, 41), ("aarch64", 92, 198)])
def test_arguments_decide_about_personality_and_socket(machine, personality, socket):
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert outcome(machine, personality, value) == ALLOWED
    for value in (1, 0x40000, 0x0400000):
        assert outcome(machine, personality, value) == EPERM
    for family in (1, 2, 10, 16, 17):
        assert outcome(machine, socket, family) == ALLOWED
    for family in (38, 40, 40 | 1 << 32):
        assert outcome(machine, socket, family) == EPERM


def test_calls_of_another_architecture_end_the_process():
    assert outcome("x86_64", 39, architecture=I386) == KILLED
    assert outcome("aarch64", 39, architecture=X86_64) == KILLED


def test_the_tree_is_shallow():
    assert len(seccomp.build("x86_64")) // 8 < 200
    assert max(_steps(number) for number in range(refused_calls.NEWEST)) <= 14


def _steps(number: int) -> int:
    program = list(struct.iter_unpack("=HBBI", seccomp.build("x86_64")[32:]))
    at = steps = 0
    while program[at][0] == 0x35:
        at += 1 + (program[at][1] if number >= program[at][3] else program[at][2])
        steps += 1
    return steps


def test_long_programs_jump_further_than_a_byte_tells():
    blocks = [(number, seccomp._return(number) * 40) for number in range(16)]
    program = list(struct.iter_unpack("=HBBI", seccomp._tree(blocks)))
    for number in range(16):
        at = 0
        while program[at][0] != 0x06:
            code, if_true, if_false, value = program[at]
            at += 1 + (value if code == 0x05 else if_true if number >= value else if_false)
        assert program[at][3] == number


def test_another_machine_has_no_filter():
    with pytest.raises(OSError, match="x86_64 and aarch64 only: 'riscv64'"):
        seccomp.build("riscv64")


def test_it_needs_no_new_privs_of_a_plain_user(plain_user):
    assert run("print(error_of(seccomp.install))", plain_user) == "EACCES"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
def test_the_kernel_refuses_what_the_filter_says():
    told = run(
        START
        + """
calls = {
    "mount": (165, 0, 0, 0, 0, 0), "unshare": (272, 0x10000000), "bpf": (321, 0, 0, 0), "keyctl": (250, 0, 0),
    "io_uring_setup": (425, 1, 0), "clone3": (435, 0, 0), "setns": (308, 0, 0), "x32": (0x40000027,),
    "future": (600,), "reboot": (169, 0, 0, 0, 0), "swapoff": (168, 0), "init_module": (175, 0, 0, 0),
    "getpid": (39,), "personality": (135, 0xffffffff),
}
for name, (number, *arguments) in calls.items():
    print(name, error_of(syscalls.call, name, number, *arguments))
"""
    )
    assert dict(line.split() for line in told.splitlines()) == {
        **dict.fromkeys(
            ["mount", "unshare", "bpf", "keyctl", "io_uring_setup", "setns", "reboot", "swapoff", "init_module"],
            "EPERM",
        ),
        **dict.fromkeys(["clone3", "x32", "future"], "ENOSYS"),
        **dict.fromkeys(["getpid", "personality"], "done"),
    }


def test_threads_forks_and_programs_work_below_it():
    told = run(
        START
        + """
import ctypes, multiprocessing, socket, subprocess, threading
threads = [threading.Thread(target=lambda: print("thread", flush=True)) for _ in range(3)]
for thread in threads:
    thread.start()
    thread.join()
child = os.fork()
if child == 0:
    os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(subprocess.run(["sh", "-c", "echo $(ls / | grep -c tmp) | cat"], capture_output=True, text=True).stdout.strip())
print(os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {}), 0)[1] >> 8)
with socket.create_server(("127.0.0.1", 0)) as listener:
    socket.create_connection(listener.getsockname()).close()
sys.stdout.flush()
os.execvp("sh", ["sh", "-c", "unshare -U true 2>/dev/null || echo refused; grep Seccomp: /proc/self/status"])
"""
    )
    assert told.split() == ["thread", "thread", "thread", "5", "1", "3", "refused", "Seccomp:", "2"]


def test_a_call_costs_little_more_with_the_filter():
    told = run(
        """
import time
def cost():
    best = 1
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(5000):
            os.getppid()
        best = min(best, (time.perf_counter() - begun) / 5000)
    return best
before = cost()
"""
        + START
        + "print((cost() - before) * 1e9)"
    )
    assert float(told) < 500
