from __future__ import annotations

from textwrap import dedent

import pytest

from pytest_enclave.linux import mounts
from tests.linux.child import run

START = """
syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC)
mounts.private_root()
S = "/sys"
def make(*names):
    for name in names:
        os.makedirs(f"{S}/{name}")
def write(name, text):
    with open(f"{S}/{name}", "w") as file:
        file.write(text)
def read(name):
    with open(f"{S}/{name}") as file:
        return file.read()
def flags(path):
    with open("/proc/self/mounts") as lines:
        return [line.split()[3].split(",") for line in lines if line.split()[1] == path][-1]
"""
ON_TMPFS = START + 'mounts.tmpfs(S, "mode=700")\n'


def test_a_tmpfs_is_empty_and_has_its_options(inside):
    told = inside(
        START + 'mounts.tmpfs("/sys", "mode=750,size=64k")\nprint(os.listdir("/sys"), oct(os.stat("/sys").st_mode))'
    )
    assert told == "[] 0o40750"


def test_an_overlay_shows_the_topmost_of_its_lowers_and_writes_to_the_upper(inside):
    told = inside(
        ON_TMPFS
        + dedent("""
        make("a/dir", "b", "upper", "work", "root")
        write("a/both", "a"), write("b/both", "b"), write("a/only", "a"), write("a/dir/old", "")
        mounts.overlay([f"{S}/a", f"{S}/b"], f"{S}/upper", f"{S}/work", f"{S}/root")
        print(read("root/both"), read("root/only"))
        write("root/new", "n")
        os.remove(f"{S}/root/only")
        os.remove(f"{S}/root/dir/old")
        os.rmdir(f"{S}/root/dir")
        os.mkdir(f"{S}/root/dir")
        print(sorted(os.listdir(f"{S}/root")), os.listdir(f"{S}/root/dir"), sorted(os.listdir(f"{S}/a")))
        print(sorted(os.listdir(f"{S}/upper")), "nodev" in flags("/sys/root"), "nosuid" in flags("/sys/root"))
        """)
    )
    assert told.splitlines() == [
        "b a",
        "['both', 'dir', 'new'] [] ['both', 'dir', 'only']",
        "['dir', 'new', 'only'] True False",
    ]


def test_a_frozen_upper_becomes_a_lower_with_what_it_removed(inside):
    told = inside(
        ON_TMPFS
        + dedent("""
        make("a/dir", "u1", "w1", "r1", "u2", "w2", "r2")
        write("a/gone", ""), write("a/dir/old", "")
        mounts.overlay([f"{S}/a"], f"{S}/u1", f"{S}/w1", f"{S}/r1")
        os.remove(f"{S}/r1/gone"), os.remove(f"{S}/r1/dir/old"), os.rmdir(f"{S}/r1/dir"), os.mkdir(f"{S}/r1/dir")
        syscalls.umount(f"{S}/r1")
        mounts.overlay([f"{S}/a", f"{S}/u1"], f"{S}/u2", f"{S}/w2", f"{S}/r2")
        print(os.listdir(f"{S}/r2"), os.listdir(f"{S}/r2/dir"))
        """)
    )
    assert told == "['dir'] []"


@pytest.mark.parametrize("name", ["with:colon", "with,comma", "with\\backslash", "with space", "u\u00fcber"])
def test_an_overlay_takes_directories_of_any_name(inside, name: str):
    told = inside(
        ON_TMPFS
        + f"name = {name!r}\n"
        + dedent("""
        make(f"{name}/a", f"{name}/upper", f"{name}/work", f"{name}/root")
        write(f"{name}/a/file", "content")
        mounts.overlay(*[[f"{S}/{name}/a"], *(f"{S}/{name}/{each}" for each in ("upper", "work", "root"))])
        write(f"{name}/root/new", "")
        print(read(f"{name}/root/file"), os.listdir(f"{S}/{name}/upper"))
        """)
    )
    assert told == "content ['new']"


def test_an_overlay_has_a_hundred_lowers_with_long_names(inside):
    told = inside(
        ON_TMPFS
        + dedent("""
        make("upper", "work", "root")
        lowers = [f"{S}/{'layer' * 20}/{number}" for number in range(128)]
        for number, lower in enumerate(lowers):
            os.makedirs(lower)
            with open(f"{lower}/{number}", "w"):
                pass
        before = len(os.listdir("/proc/self/fd"))
        mounts.overlay(lowers, f"{S}/upper", f"{S}/work", f"{S}/root")
        print(len(os.listdir(f"{S}/root")), len(os.listdir("/proc/self/fd")) - before)
        print(error_of(mounts.overlay, lowers * 4, f"{S}/upper", f"{S}/work", f"{S}/root"))
        """)
    )
    assert told.split() == ["128", "0", "E2BIG"]


def test_an_overlay_of_a_lower_that_is_not_there_says_so(inside):
    code = 'print(error_of(mounts.overlay, [f"{S}/no"], f"{S}/upper", f"{S}/work", f"{S}/root"))'
    assert inside(ON_TMPFS + 'make("upper", "work", "root")\n' + code) == "ENOENT"


def test_an_overlay_can_have_its_upper_on_disk(as_root, tmp_path):
    for name in ("a", "upper", "work", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/file").write_text("content")
    told = run(
        START
        + f"S = {str(tmp_path)!r}\n"
        + dedent("""
        mounts.overlay([f"{S}/a"], f"{S}/upper", f"{S}/work", f"{S}/root")
        os.remove(f"{S}/root/file")
        write("root/new", "")
        print(os.listdir(f"{S}/root"))
        """)
    )
    assert told == "['new']"
    assert sorted(path.name for path in (tmp_path / "upper").iterdir()) == ["file", "new"]
    assert list((tmp_path / "root").iterdir()) == []


def test_a_read_only_bind_leaves_its_source_writable(inside):
    told = inside(
        ON_TMPFS
        + dedent("""
        make("source", "target")
        mounts.bind(f"{S}/source", f"{S}/target", read_only=True)
        print(error_of(os.mkdir, f"{S}/target/x"), error_of(os.mkdir, f"{S}/source/x"), os.listdir(f"{S}/target"))
        """)
    )
    assert told == "EROFS done ['x']"


def test_a_bind_of_a_file_shows_the_file(inside):
    code = 'write("a", "content"), write("b", "")\nmounts.bind(f"{S}/a", f"{S}/b")\nprint(read("b"))'
    assert inside(ON_TMPFS + code) == "content"


def test_a_read_only_bind_keeps_the_flags_that_are_locked(inside):
    told = inside(
        ON_TMPFS
        + dedent("""
        make("times", "target")
        mounts.bind(S, f"{S}/target", read_only=True)
        print(sorted({"ro", "nosuid", "nodev", "noexec"} & set(flags("/sys/target"))))
        syscalls.mount("tmpfs", f"{S}/times", "tmpfs", syscalls.MS_NOATIME | syscalls.MS_NOEXEC)
        make("copy")
        # What comes from the namespace above is locked.
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        mounts.bind(f"{S}/times", f"{S}/copy", read_only=True)
        print(sorted({"ro", "noatime", "noexec"} & set(flags("/sys/copy"))))
        """)
    )
    assert told.splitlines() == ["['nodev', 'nosuid', 'ro']", "['noatime', 'noexec', 'ro']"]


def test_only_a_recursive_bind_shows_what_is_mounted_below(inside):
    told = inside(
        ON_TMPFS
        + dedent("""
        make("a/b", "plain", "all")
        mounts.tmpfs(f"{S}/a/b")
        write("a/b/file", "")
        mounts.bind(f"{S}/a", f"{S}/plain")
        mounts.bind(f"{S}/a", f"{S}/all", recursive=True)
        print(os.listdir(f"{S}/plain/b"), os.listdir(f"{S}/all/b"))
        """)
    )
    assert told == "[] ['file']"


def test_the_kernels_own_file_systems_are_mounted(inside):
    told = inside(
        START
        + dedent("""
        mounts.sysfs_read_only("/sys")
        print(os.listdir("/sys/class/net"), error_of(os.mkdir, "/sys/x"), "ro" in flags("/sys"), flush=True)
        syscalls.unshare(syscalls.CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            mounts.proc("/proc")
            print([name for name in os.listdir("/proc") if name.isdigit()], flush=True)
            mounts.devpts("/dev/pts")
            mounts.bind("/dev/pts/ptmx", "/dev/ptmx")
            main, terminal = os.openpty()
            print(os.ttyname(terminal), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """)
    )
    lines = told.splitlines()
    assert lines[0].endswith("True")
    assert "['lo']" in lines[0]
    assert lines[1:] == ["['1']", "/dev/pts/0"]


def test_mounts_do_not_leave_the_namespace(inside):
    inside(ON_TMPFS + 'write("marker", "")')
    assert run('print(os.path.exists("/sys/marker"))') == "False"


def test_whether_a_tmpfs_has_user_xattrs_is_found_by_trying(inside, monkeypatch, tmp_path):
    assert inside(ON_TMPFS + "print(mounts.tmpfs_has_user_xattrs(S), os.listxattr(S))") in ("True []", "False []")

    def refuse(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(mounts.os, "setxattr", refuse)
    assert not mounts.tmpfs_has_user_xattrs(str(tmp_path))
