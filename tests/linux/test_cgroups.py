from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_enclave.linux import cgroups
from pytest_enclave.linux.cgroups import Cgroups
from tests.linux.child import run

REAL_MKDIR, REAL_RMDIR = os.mkdir, os.rmdir


class Machine:
    """A tree of version 2 as the kernel would have it, at a directory."""

    def __init__(self, root: Path, group: str) -> None:
        self.root = root
        self.group = group
        self.mounts = root.parent / "mountinfo"
        self.membership = root.parent / "membership"
        self.mounts.write_text(
            "24 1 0:22 / /proc rw - proc proc rw\n"
            f"30 24 0:26 / {str(root).replace(' ', chr(92) + '040')} rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
        )
        self.membership.write_text(f"0::{group}\n")
        self.fill(root, "cpuset cpu io memory pids")
        directory = root
        for part in group.strip("/").split("/"):
            directory /= part
            REAL_MKDIR(directory)
            self.fill(directory, "cpu memory pids")

    def fill(self, directory: Path, controllers: str) -> None:
        for name, text in {
            "cgroup.controllers": controllers,
            "cgroup.subtree_control": "",
            "cgroup.procs": "",
            "cgroup.type": "domain\n",
            "memory.max": "max",
            "memory.swap.max": "max",
            "memory.events": "low 0\nmax 4\noom 3\noom_kill 0\noom_group_kill 0\n",
            "cpu.max": "max 100000",
        }.items():
            (directory / name).write_text(text)

    def inhabit(self, *directories: str) -> None:
        """Let groups have processes."""
        for directory in directories:
            (self.root / directory / "cgroup.procs").write_text("4711\n")

    def content(self) -> dict[str, str]:
        """All files, with what is in them."""
        return {str(path): path.read_text() for path in self.root.rglob("*") if path.is_file()}

    def find(self) -> Cgroups | None:
        return Cgroups.find(str(self.mounts), str(self.membership))


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    root = tmp_path / "with space"
    root.mkdir()
    made = Machine(root, "/user.slice/session.scope")

    def mkdir(path, mode=0o777):
        REAL_MKDIR(path, mode)
        if Path(path).resolve().is_relative_to(root):
            made.fill(Path(path), "cpu memory pids")

    def rmdir(path):
        for file in Path(path).iterdir():
            if file.is_file():
                file.unlink()
        REAL_RMDIR(path)

    monkeypatch.setattr(cgroups.os, "mkdir", mkdir)
    monkeypatch.setattr(cgroups.os, "rmdir", rmdir)
    return made


@pytest.fixture
def refuse_writes(monkeypatch):
    """Writing to control files of these directories fails as the kernel does where a group has processes."""
    refused: list[str] = []
    write = cgroups._write

    def refusing(path: str, value: str) -> None:
        if os.path.dirname(path) in refused:
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        write(path, value)

    monkeypatch.setattr(cgroups, "_write", refusing)
    return refused


def test_version_2_sets_all_limits_of_a_group(machine):
    found = machine.find()
    assert found.controllers == {"memory", "cpu"}
    group = found.create("e1/web", memory_bytes=64 << 20, cpu_millicores=250)
    directory = machine.root / "user.slice/session.scope/pytest-enclave/e1/web"
    assert group.entry_files() == [str(directory / "cgroup.procs")]
    limits = {name: (directory / name).read_text() for name in ("memory.max", "memory.swap.max", "cpu.max")}
    assert limits == {"memory.max": str(64 << 20), "memory.swap.max": "0", "cpu.max": "25000 100000"}
    group.remove()
    assert not directory.exists()
    found.remove("e1")
    assert not (machine.root / "user.slice/session.scope/pytest-enclave").exists()


def test_version_2_gives_the_controllers_to_all_groups_on_the_way(machine):
    machine.find().create("e1/web", memory_bytes=5)
    directory = machine.root / "user.slice/session.scope"
    for below in ("", "pytest-enclave", "pytest-enclave/e1"):
        assert (directory / below / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (directory / "pytest-enclave/e1/web/cgroup.subtree_control").read_text() == ""


def test_version_2_goes_up_from_a_group_that_has_processes(machine):
    machine.inhabit("user.slice/session.scope")
    group = machine.find().create("e1", memory_bytes=5)
    assert group.entry_files() == [str(machine.root / "user.slice/pytest-enclave/e1/cgroup.procs")]


def test_version_2_stays_where_the_controllers_are_on_already(machine):
    machine.inhabit("user.slice/session.scope")
    (machine.root / "user.slice/session.scope/cgroup.subtree_control").write_text("cpu memory pids")
    group = machine.find().create("e1", memory_bytes=5)
    assert group.entry_files() == [str(machine.root / "user.slice/session.scope/pytest-enclave/e1/cgroup.procs")]


def test_version_2_without_a_group_of_ours_gives_nothing(machine):
    machine.inhabit("user.slice/session.scope", "user.slice", "")
    assert machine.find() is None


def test_the_root_group_of_a_machine_may_have_processes(machine):
    machine.inhabit("user.slice/session.scope", "user.slice", "")
    (machine.root / "cgroup.type").unlink()
    assert machine.find().parents["memory"] == str(machine.root / "pytest-enclave")


def test_version_2_without_limits_still_makes_a_group(machine):
    group = machine.find().create("e1/web")
    assert len(group.entry_files()) == 1
    assert group.oom_kills() == 0


def test_version_2_counts_what_was_killed_for_want_of_memory(machine):
    group = machine.find().create("web", memory_bytes=1 << 20)
    events = Path(group.entry_files()[0]).with_name("memory.events")
    events.write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n")
    assert group.oom_kills() == 2


def test_version_2_without_swap_accounting_limits_memory_alone(machine, monkeypatch):
    fill = machine.fill
    monkeypatch.setattr(
        machine, "fill", lambda path, controllers: (fill(path, controllers), (path / "memory.swap.max").unlink())
    )
    group = machine.find().create("web", memory_bytes=1 << 20)
    directory = Path(group.entry_files()[0]).parent
    assert (directory / "memory.max").read_text() == str(1 << 20)
    assert not (directory / "memory.swap.max").exists()


def test_a_limit_without_its_controller_is_refused(machine, monkeypatch):
    for directory in ("", "user.slice", "user.slice/session.scope"):
        (machine.root / directory / "cgroup.controllers").write_text("memory pids")
    found = machine.find()
    assert found.controllers == {"memory"}
    with pytest.raises(OSError, match="the processor time of a service cannot be limited here: 'web'"):
        found.create("web", cpu_millicores=500)


def test_a_group_whose_limit_is_refused_is_removed_again(machine, refuse_writes):
    found = machine.find()
    directory = machine.root / "user.slice/session.scope/pytest-enclave/web"
    refuse_writes.append(str(directory))
    with pytest.raises(OSError, match="busy"):
        found.create("web", memory_bytes=1 << 20)
    assert not directory.exists()


def test_an_existing_group_is_not_taken_over(machine):
    found = machine.find()
    found.create("web", memory_bytes=5)
    with pytest.raises(FileExistsError):
        found.create("web", memory_bytes=5)
    assert (machine.root / "user.slice/session.scope/pytest-enclave/web").exists()


def test_what_is_left_is_removed_with_all_below_it(machine):
    found = machine.find()
    for name in ("e1/a", "e1/b/c", "e2/a"):
        found.create(name, memory_bytes=5)
    found.remove("e1")
    found.remove("never")
    parent = machine.root / "user.slice/session.scope/pytest-enclave"
    assert sorted(path.name for path in parent.iterdir() if path.is_dir()) == ["e2"]


@pytest.mark.parametrize(
    ("millicores", "share"), [(1, "1000 1000000"), (10, "1000 100000"), (500, "50000 100000"), (2500, "250000 100000")]
)
def test_processor_time_is_a_share_of_a_period(machine, millicores, share):
    group = machine.find().create("web", cpu_millicores=millicores)
    assert Path(group.entry_files()[0]).with_name("cpu.max").read_text() == share


def test_in_a_container_the_groups_are_below_what_is_mounted(machine):
    machine.mounts.write_text(f"30 24 0:26 /docker/abc {machine.root.parent}/tree rw - cgroup2 cgroup2 rw\n")
    (machine.root.parent / "tree").symlink_to(machine.root)
    machine.membership.write_text("0::/docker/abc/user.slice\n")
    group = machine.find().create("web", memory_bytes=5)
    assert group.entry_files() == [f"{machine.root.parent}/tree/user.slice/pytest-enclave/web/cgroup.procs"]


def test_without_control_groups_there_is_nothing(tmp_path):
    (tmp_path / "mountinfo").write_text("24 1 0:22 / /proc rw - proc proc rw\n")
    (tmp_path / "membership").write_text("")
    assert Cgroups.find(str(tmp_path / "mountinfo"), str(tmp_path / "membership")) is None


def test_looking_for_groups_changes_nothing(machine):
    before = machine.content()
    assert machine.find() is not None
    assert machine.content() == before
    assert not (machine.root / "user.slice/session.scope/pytest-enclave").exists()


def test_the_parent_is_made_again_when_another_process_removes_it(machine, monkeypatch):
    found = machine.find()
    parent = machine.root / "user.slice/session.scope/pytest-enclave"
    mkdir, removed = os.mkdir, []

    def racing(path, mode=0o777):
        if str(path).endswith("/web") and not removed:
            removed.append(path)
            cgroups.os.rmdir(parent)
        mkdir(path, mode)

    monkeypatch.setattr(cgroups.os, "mkdir", racing)
    found.create("web", memory_bytes=5)
    assert removed
    assert (parent / "web/memory.max").read_text() == "5"


def test_a_plain_user_without_a_group_finds_nothing(plain_user):
    if os.geteuid() != 0:
        pytest.skip("a session of a plain user may have a group")
    assert run("print(cgroups.Cgroups.find())", plain_user) == "None"


@pytest.fixture
def real(as_root):
    found = Cgroups.find()
    if found is None or "memory" not in found.controllers:
        pytest.skip("no control groups can be made here")
    name = f"test-{os.getpid()}"
    yield found, name
    found.remove(name)


MEMBER = """
for path in {files!r}:
    with open(path, "w") as members:
        members.write("0")
"""


def test_the_kernel_ends_a_process_beyond_its_memory(real):
    found, name = real
    group = found.create(f"{name}/web", memory_bytes=32 << 20)
    told = run(
        MEMBER.format(files=group.entry_files())
        + "if os.fork() == 0:\n    taken = bytearray(200 << 20)\n    os._exit(0)\nprint(os.wait()[1])"
    )
    assert told == "9"
    assert group.oom_kills() == 1
    group.remove()


def test_memory_within_the_limit_is_no_matter(real):
    found, name = real
    group = found.create(f"{name}/web", memory_bytes=128 << 20)
    run(MEMBER.format(files=group.entry_files()) + "taken = bytearray(32 << 20)")
    assert group.oom_kills() == 0


def test_the_kernel_holds_back_a_process_beyond_its_processor_time(real):
    found, name = real
    if "cpu" not in found.controllers:
        pytest.skip("processor time cannot be limited here")
    group = found.create(f"{name}/web", cpu_millicores=100)
    told = run(
        MEMBER.format(files=group.entry_files())
        + "import time\nbegun, used = time.monotonic(), time.process_time()\n"
        + "while time.monotonic() - begun < 1:\n    pass\nprint(time.process_time() - used)"
    )
    assert float(told) < 0.35


def test_without_limits_version_1_makes_no_group(real):
    found, name = real
    if found.unified:
        pytest.skip("version 2")
    group = found.create(f"{name}/web")
    assert (group.entry_files(), group.oom_kills()) == ([], 0)
    group.remove()


def test_a_group_with_a_process_is_not_removed(real):
    found, name = real
    group = found.create(f"{name}/web", memory_bytes=32 << 20)
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        for path in group.entry_files():
            Path(path).write_text(str(child))
        with pytest.raises(OSError, match="busy"):
            group.remove()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    group.remove()
    group.remove()
