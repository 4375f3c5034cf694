from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_enclave.linux import syscalls
from tests.linux.child import ROOT, run


def test_an_error_names_the_call_and_what_it_was_for():
    with pytest.raises(FileNotFoundError, match=r"mount tmpfs at /no/such") as caught:
        syscalls.mount("tmpfs", "/no/such", "tmpfs") if sys.platform == "linux" else None
    assert caught.value.strerror == "No such file or directory"


def test_a_host_name_belongs_to_the_new_namespace(inside):
    told = inside("""
        syscalls.unshare(syscalls.CLONE_NEWUTS)
        syscalls.set_hostname("web-1")
        print(os.uname().nodename)
    """)
    assert told == "web-1"
    assert run("print(os.uname().nodename)") != "web-1"


def test_a_process_enters_namespaces_and_makes_another_root(inside):
    told = inside("""
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        before = os.readlink("/proc/self/ns/net")
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
        mounts.private_root()
        mounts.tmpfs("/sys")
        with open("/sys/marker", "w"):
            pass
        os.chdir("/sys")
        changed = os.readlink("/proc/self/ns/net") != before
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir("/")
        print(changed, os.listdir("/"))
    """)
    assert told == "True ['marker']"


def test_a_namespace_left_can_be_entered_again(inside):
    told = inside("""
        syscalls.unshare(syscalls.CLONE_NEWNET)
        home, before = os.open("/proc/self/ns/net", os.O_RDONLY), os.readlink("/proc/self/ns/net")
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        print(os.readlink("/proc/self/ns/net") == before)
        print(error_of(syscalls.setns, home, syscalls.CLONE_NEWUTS))
    """)
    assert told.split() == ["True", "EINVAL"]


def test_a_property_of_the_process_is_set_and_read():
    assert run("print(syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1), syscalls.prctl(39))") == "0 1"
    assert run("print(error_of(syscalls.prctl, 4, 1000))") == "EINVAL"


def test_the_room_is_imported_without_what_is_slow_or_needs_linux():
    code = f"""
import sys
sys.path.insert(0, {ROOT!r})
from pytest_enclave.linux import capabilities, cgroups, identity, mounts, netlink, seccomp, syscalls
slow = ("ctypes", "typing", "dataclasses", "pathlib", "subprocess", "tempfile", "logging", "re", "inspect")
print([name for name in slow if name in sys.modules])
"""
    finished = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    # The package itself needs `typing` for its lazy names.
    assert set(finished.stdout.strip("[]\n").replace("'", "").split(", ")) <= {"", "typing", "re"}


def test_all_descriptors_are_closed_but_those_kept():
    told = run("""
        kept = [os.dup(0) for _ in range(20)][7]
        for each in range(3, 40):
            try:
                os.set_inheritable(each, True)
            except OSError:
                pass
        syscalls.close_others(kept, kept, 1)
        print([each for each in range(50) if error_of(os.fstat, each) == "done"] == [0, 1, 2, kept])
    """)
    assert told == "True"


def test_a_path_is_opened_below_a_directory_and_never_beyond(tmp_path):
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    for name, target in {"up": "../../etc", "absolute": "/etc", "magic": f"/proc/self/fd/0/../{tmp_path}"}.items():
        (tmp_path / "root" / name).symlink_to(target)
    told = run(f"""
        root = os.open({str(tmp_path / "root")!r}, os.O_PATH)
        wanted = os.stat("etc", dir_fd=root)
        for path in ("etc", "/etc", "../etc", "up", "absolute", "/etc/../../../etc", "absolute/../up"):
            found = syscalls.open_below(root, path, os.O_PATH | os.O_DIRECTORY)
            assert os.path.samestat(os.fstat(found), wanted), path
            assert not os.get_inheritable(found)
        outside = os.open("/", os.O_PATH)
        print(error_of(syscalls.open_below, root, "magic", os.O_PATH))
        print(error_of(syscalls.open_below, outside, f"proc/self/fd/{{root}}", os.O_PATH))
    """)
    assert told.split() == ["ENOENT", "ELOOP"]
