from __future__ import annotations

from pytest_enclave.linux.capabilities import DOCKER_DEFAULT

STATUS = """
def status():
    with open("/proc/self/status") as lines:
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}
"""


def test_the_default_is_that_of_docker():
    assert sum(1 << each for each in DOCKER_DEFAULT) == 0xA80425FB


def test_root_keeps_only_these_and_so_do_its_programs(inside):
    told = inside(
        STATUS
        + """
capabilities.keep_only(capabilities.DOCKER_DEFAULT)
own = status()
print(*(own[name][-8:] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")), flush=True)
os.execv("/bin/sh", ["sh", "-c", "grep Cap /proc/self/status"])
"""
    )
    first, *lines = told.splitlines()
    assert first == "00000000 a80425fb a80425fb a80425fb 00000000"
    assert [line.split()[1][-8:] for line in lines] == ["00000000", "a80425fb", "a80425fb", "a80425fb", "00000000"]


def test_what_was_given_up_does_not_work_and_what_was_kept_does(inside):
    told = inside("""
        syscalls.unshare(syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
        mounts.private_root()
        print(error_of(syscalls.set_hostname, "before"))
        capabilities.keep_only(capabilities.DOCKER_DEFAULT)
        print(error_of(syscalls.set_hostname, "after"), error_of(mounts.tmpfs, "/sys"), error_of(os.chroot, "/"))
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()
    """)
    assert told.split() == ["done", "EPERM", "EPERM", "done"]


def test_another_user_has_none_but_the_bounds_stay(inside):
    told = inside(
        STATUS
        + """
capabilities.keep_only(capabilities.DOCKER_DEFAULT)
try:
    os.setgid(999)
    os.setuid(999)
except OSError:
    print("one id only")
    sys.exit()
own = status()
print(*(own[name][-8:] for name in ("CapPrm", "CapEff", "CapBnd")), flush=True)
os.execv("/bin/sh", ["sh", "-c", "grep CapEff /proc/self/status"])
"""
    )
    assert told == "one id only" or told.split() == ["00000000", "00000000", "a80425fb", "CapEff:", "0" * 16]


def test_none_can_be_kept_at_all(inside):
    assert (
        inside("capabilities.keep_only(frozenset())\nprint([len(each) for each in capabilities.held()])") == "[0, 0, 0]"
    )


def test_what_was_not_there_is_not_gained(inside):
    told = inside("""
        capabilities.keep_only({capabilities.CHOWN})
        print(error_of(capabilities.keep_only, {capabilities.CHOWN}))
    """)
    # The bounds can no longer be narrowed, and that is said.
    assert told in ("EPERM", "done")
