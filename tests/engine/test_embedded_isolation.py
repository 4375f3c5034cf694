"""Services are alone: neither the machine, nor the enclave's own processes, nor other services are in reach."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from tests.engine.enclave_processes import Processes
from tests.engine.engine_enclave import FOREVER, PYTHON, Enclave, enclave_id
from tests.engine.made_images import MadeImages
from tests.images_room.builder import entry, folder, link

HOST = "host:/"

DOCKER_CAPABILITIES = "00000000a80425fb"
"""What root has in Docker's containers by default."""

NONE = "0000000000000000"

REFUSALS = {"EPERM", "EACCES", "EROFS", "ENOSYS", "ENOENT"}


@pytest.fixture(scope="module")
def room() -> Iterator[Enclave]:
    """An enclave with a service that has Python, one of busybox, and one of the machine's own programs."""
    engine = EmbeddedEngine()
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    enclave.up("python", PYTHON, cmd=FOREVER)
    enclave.up("busybox")
    enclave.up("host", HOST)
    yield enclave
    assert enclave.site.close() == []
    assert engine.close() == []


@pytest.fixture
def images(tmp_path: Path) -> Iterator[MadeImages]:
    """Images of our own making."""
    made = MadeImages(tmp_path)
    yield made
    made.close()


def python(enclave: Enclave, program: str, service: str = "python") -> object:
    """What a program tells that runs in a service; it sets `told`."""
    result = enclave.site.exec(service, ["python3", "-c", f"import json\n{program}\nprint(json.dumps(told))"], None)
    assert result.code == 0, result.output
    return json.loads(result.output)


def status(enclave: Enclave, service: str, pid: str) -> dict[str, str]:
    """The kernel's words on a process."""
    lines = enclave.site.exec(service, ["cat", f"/proc/{pid}/status"], None).output.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("service", ["python", "busybox", "host"])
@pytest.mark.parametrize("pid", ["1", "self"])
def test_nothing_is_open_but_the_three_streams(room: Enclave, service: str, pid: str):
    ours = {0: "/dev/null", 1: "pipe", 2: "pipe"}
    listed = room.site.exec(service, ["ls", "-l", f"/proc/{pid}/fd"], None).output.splitlines()
    targets = [line.split()[-3:] for line in listed if " -> " in line]
    found = {int(number): target.split(":")[0] for number, _, target in targets}
    if pid == "self":
        # The directory that is being listed.
        found.pop(3, None)
    assert found == ours


def test_a_service_sees_no_processes_but_its_own(room: Enclave):
    told = python(
        room, "import os\ntold = [open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()]"
    )
    assert isinstance(told, list)
    assert sorted(line.split("\0")[0] for line in told) == ["python3", "sleep"]


def test_no_process_outside_can_be_signalled(room: Enclave):
    program = """
import os
told = {}
for pid in [*range(2, 70000), os.getppid()]:
    if pid not in (os.getpid(), 0):
        try:
            os.kill(pid, 0)
            told[pid] = open(f"/proc/{pid}/cmdline").read()
        except OSError:
            pass
"""
    assert python(room, program) == {}


@pytest.mark.parametrize("service", ["python", "busybox", "host"])
@pytest.mark.parametrize("pid", ["1", "self"])
def test_root_has_what_docker_gives_and_cannot_gain_more(room: Enclave, service: str, pid: str):
    found = status(room, service, pid)
    assert found["CapEff"] == found["CapPrm"] == found["CapBnd"] == DOCKER_CAPABILITIES
    assert found["CapInh"] == found["CapAmb"] == NONE
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("pid", ["1", "self"])
def test_other_users_have_no_rights_at_all(images: MadeImages, pid: str):
    enclave = images.open()
    enclave.up("plain", images.make(User="1000:1000"), cmd=FOREVER)
    found = status(enclave, "plain", pid)
    assert found["CapEff"] == found["CapPrm"] == found["CapInh"] == found["CapAmb"] == NONE
    assert found["CapBnd"] == DOCKER_CAPABILITIES
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert found["Uid"].split() == found["Gid"].split() == ["1000"] * 4


def test_programs_with_the_bit_of_another_user_give_no_rights(images: MadeImages):
    enclave = images.open()
    enclave.up("plain", images.make(entry("gain/cat", images.busybox, mode=0o6755), User="1000:1000"), cmd=FOREVER)
    assert enclave.sh("plain", "ls -l /gain/cat").startswith("-rwsr-sr-x")
    told = enclave.site.exec("plain", ["/gain/cat", "/proc/self/status"], None).output
    assert "Uid:\t1000\t1000\t1000\t1000" in told
    assert f"CapEff:\t{NONE}" in told


SYSTEM_CALLS = """
import ctypes, errno, os, platform
c = ctypes.CDLL(None, use_errno=True)
c.syscall.restype = ctypes.c_long
def outcome(result):
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
told = {
    "mount tmpfs": outcome(c.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None)),
    "remount /": outcome(c.mount(None, b"/", None, 32, None)),
    "remount /proc/sys": outcome(c.mount(None, b"/proc/sys", None, 32 | 4096, None)),
    "bind": outcome(c.mount(b"/etc", b"/tmp", None, 4096, None)),
    "umount": outcome(c.umount2(b"/proc/sys", 2)),
    "umount hosts": outcome(c.umount2(b"/etc/hosts", 2)),
    "pivot_root": outcome(c.pivot_root(b"/", b"/tmp")),
    "sethostname": outcome(c.sethostname(b"x", 1)),
    "setdomainname": outcome(c.setdomainname(b"x", 1)),
    "setns": outcome(c.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)),
    "keyctl": outcome(c.syscall(250 if platform.machine() == "x86_64" else 219, 0, -3, 1)),
    "bpf": outcome(c.syscall(321 if platform.machine() == "x86_64" else 280, 0, 0, 0)),
    "open_tree": outcome(c.syscall(428, -100, b"/", 1)),
    "fsopen": outcome(c.syscall(430, b"tmpfs", 0)),
    "io_uring": outcome(c.syscall(425, 1, 0)),
    "clone3": outcome(c.syscall(435, 0, 0)),
    "open_by_handle_at": outcome(c.syscall(304 if platform.machine() == "x86_64" else 265, -100, 0, 0)),
}
spaces = {"mnt": 0x20000, "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "cgroup": 0x2000000}
for name, flag in spaces.items():
    told["unshare " + name] = outcome(c.unshare(flag))
for path in ("/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward",
             "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/sys/class/net/lo/mtu", "/etc/hosts"):
    try:
        open(path, "r+").close()
        told["write " + path] = "done"
    except OSError as error:
        told["write " + path] = errno.errorcode[error.errno]
"""


@pytest.mark.parametrize("service", ["python", "host"])
def test_mounts_namespaces_and_settings_of_the_kernel_are_out_of_reach(room: Enclave, service: str):
    told = python(room, SYSTEM_CALLS, service)
    assert isinstance(told, dict)
    assert {name: outcome for name, outcome in told.items() if outcome not in REFUSALS} == {}


def test_devices_cannot_be_made(room: Enclave):
    program = """
import os, stat
told = []
for place in ("/tmp", "/dev", "/dev/shm", "/etc"):
    kinds = (("null", stat.S_IFCHR, (1, 3)), ("mem", stat.S_IFCHR, (1, 1)), ("disk", stat.S_IFBLK, (254, 0)))
    for name, kind, number in kinds:
        try:
            os.mknod(f"{place}/made-{name}", 0o666 | kind, os.makedev(*number))
            os.close(os.open(f"{place}/made-{name}", os.O_RDONLY))
            told.append(f"{place} {name}")
        except OSError:
            pass
"""
    assert python(room, program) == []


def test_devices_are_those_that_do_no_harm(room: Enclave):
    assert set(room.sh("busybox", "ls /dev").split()) == {
        *("null", "zero", "full", "random", "urandom", "tty"),
        *("fd", "stdin", "stdout", "stderr", "core", "ptmx", "pts", "shm", "mqueue"),
    }
    assert room.sh("busybox", "cat /proc/kcore /proc/kmsg /proc/keys 2>/dev/null | wc -c") == "0"


@pytest.mark.parametrize("service", ["python", "host"])
def test_the_machines_files_are_not_there(room: Enclave, service: str, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    program = f"""
import glob, os
ways = ["", *glob.glob("/proc/*/root"), *glob.glob("/proc/*/cwd")]
ups = ["", "/..", "/../../../../../.."]
paths = [{str(secret)!r}, {str(Path(__file__))!r}, "/sys/{room.id.name}", "/proc/1/root/sys/{room.id.name}"]
told = [way + up + path for way in ways for up in ups for path in paths if os.path.lexists(way + up + path)]
"""
    assert python(room, program, service) == []


def test_leaving_a_change_root_leads_to_the_services_own_root(room: Enclave):
    program = """
import os
os.makedirs("/tmp/jail", exist_ok=True)
before = os.stat("/")
outside = os.open("/", os.O_RDONLY)
os.chroot("/tmp/jail")
os.fchdir(outside)
for _ in range(100):
    os.chdir("..")
os.chroot(".")
told = [os.path.samestat(before, os.stat("/"))]
"""
    assert python(room, program) == [True]


def test_artifacts_stay_as_they_are(room: Enclave, tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("content")
    room.artifacts["files"] = tmp_path
    room.up("mounted", PYTHON, cmd=FOREVER, files={"/etc/given": "files"})
    program = """
import ctypes, os
c = ctypes.CDLL(None)
c.mount(None, b"/etc/given", None, 32 | 4096, None)
c.mount(None, b"/etc/given", None, 32, None)
c.umount2(b"/etc/given", 2)
c.mount(b"/etc/given", b"/mnt", None, 4096, None)
try:
    os.rename("/etc", "/moved")
except OSError:
    os.symlink("/etc", "/moved")
told = []
for way in ("/moved/given", "/etc/given", "/mnt", "/proc/1/root/moved/given"):
    for attempt in (
        lambda: open(way + "/deep/file", "w"),
        lambda: open(way + "/new", "w"),
        lambda: os.unlink(way + "/deep/file"),
        lambda: os.chmod(way + "/deep/file", 0),
        lambda: os.utime(way),
        lambda: os.rename(way + "/deep", "/tmp/deep"),
        lambda: os.link(way + "/deep/file", "/tmp/link"),
        lambda: os.setxattr(way + "/deep", "user.x", b""),
    ):
        try:
            attempt()
            if way != "/mnt":
                told.append(way)
        except OSError:
            pass
told.append(open("/moved/given/deep/file").read())
"""
    assert python(room, program, "mounted") == ["content"]
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["deep", "file"]


def test_each_service_has_namespaces_of_its_own(room: Enclave):
    spaces = ("mnt", "pid", "net", "ipc", "uts")
    found = [
        tuple(room.sh(service, f"cd /proc/1/ns; for each in {' '.join(spaces)}; do readlink $each; done").split())
        for service in ("python", "busybox", "host")
    ]
    found.append(tuple(os.readlink(f"/proc/self/ns/{space}") for space in spaces))
    for each in zip(*found, strict=True):
        assert len(set(each)) == len(found)
    assert room.sh("busybox", "readlink /proc/self/ns/user") != os.readlink("/proc/self/ns/user")


def test_shared_memory_and_temporary_files_are_not_shared(room: Enclave):
    room.sh("python", "echo secret >/dev/shm/it; echo secret >/tmp/it; chmod 666 /dev/shm/it /tmp/it")
    for service in ("busybox", "host"):
        assert room.sh(service, "ls /dev/shm; ls /tmp") == ""
    assert not Path("/dev/shm/it").exists()
    made = "import ctypes\ntold = ctypes.CDLL(None).shmget(4711, 4096, 0o1666)"
    assert python(room, made) != -1
    assert python(room, "import ctypes\ntold = ctypes.CDLL(None).shmget(4711, 4096, 0)", "host") == -1


def test_the_name_of_the_machine_is_the_services(room: Enclave):
    assert room.sh("busybox", "hostname") == "busybox"
    assert room.sh("host", "uname -n") == "host"


def test_loopback_of_the_machine_is_out_of_reach(room: Enclave):
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        port = tcp.getsockname()[1]
        abstract.bind(f"\0{room.id.name}")
        abstract.listen()
        program = f"""
import socket
told = []
for host in ("127.0.0.1", "10.77.0.1", "localhost"):
    try:
        socket.create_connection((host, {port}), 1)
        told.append(host)
    except OSError:
        pass
try:
    socket.socket(socket.AF_UNIX).connect("\\0{room.id.name}")
    told.append("abstract")
except OSError:
    pass
"""
        assert python(room, program) == []


def test_the_enclaves_own_processes_listen_for_nothing_but_names(room: Enclave):
    program = """
import socket
told = []
def tried(host, port):
    try:
        socket.create_connection((host, port), 1).close()
        told.append(f"{host} {port}")
    except OSError:
        pass
for port in range(1, 12000):
    tried("10.77.0.1", port)
for port in range(1, 2000):
    tried("127.0.0.11", port)
"""
    assert python(room, program) == ["127.0.0.11 53"]


def test_other_enclaves_are_out_of_reach(room: Enclave):
    engine = EmbeddedEngine()
    id_ = enclave_id()
    other = Enclave(engine.open(id_), id_)
    try:
        for number in range(20):
            address = other.site.reserve(f"name-{number}").ip_address
        other.up("name-19", PYTHON, cmd=("python3", "-m", "http.server", "8000"))
        assert other.site.observe()["name-19"].ip_address == address
        program = f"""
import socket
told = []
try:
    socket.create_connection(("{address}", 8000), 1)
    told.append("reached")
except OSError:
    pass
try:
    told.append(socket.gethostbyname("name-19"))
except OSError:
    pass
"""
        assert python(room, program) == []
    finally:
        assert other.site.close() == []
        engine.close()


def test_the_environment_of_the_tests_is_nowhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_THE_TESTS", "very-secret")
    engine = EmbeddedEngine()
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    try:
        enclave.up("a", env_vars={"MINE": "1"})
        enclave.up("b", HOST, env_vars={"MINE": "1"})
        processes = Processes(engine)
        for pid in (processes.launcher, *processes.all):
            assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes().lower()
            assert b"secret" not in Path(f"/proc/{pid}/cmdline").read_bytes().lower()
        for service in ("a", "b"):
            names = {line.partition("=")[0] for line in enclave.sh(service, "env").splitlines()}
            assert names - {"_", "SHLVL", "PWD", "OLDPWD"} == {"PATH", "HOME", "HOSTNAME", "MINE"}
    finally:
        assert enclave.site.close() == []
        engine.close()


LIBRARYS_OWN = 0b11 << 31
"""Signals 32 and 33, which the C library keeps for itself: what whoever started the tests makes of them stays."""


def test_the_mask_and_the_ignored_signals_of_the_tests_are_not_the_services():
    mask = os.umask(0o077)
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    engine = EmbeddedEngine()
    try:
        id_ = enclave_id()
        enclave = Enclave(engine.open(id_), id_)
        enclave.up("a")
        for pid in ("1", "self"):
            found = status(enclave, "a", pid)
            assert (int(found["SigIgn"], 16) & ~LIBRARYS_OWN, found["SigBlk"]) == (0, NONE)
        assert enclave.sh("a", "umask; stat -c %a /") == "0022\n755"
        assert enclave.site.close() == []
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGHUP, ignored)
        os.umask(mask)
        engine.close()


def test_reading_files_asks_nothing_of_the_image_for_names_of_users(room: Enclave):
    room.sh("busybox", "mkdir -p /etc; echo x:x:0:0:::/bin/sh >/etc/passwd; echo data >/data")
    with tarfile.open(fileobj=io.BytesIO(b"".join(room.site.read("busybox", "/data")))) as tar:
        (member,) = tar.getmembers()
    assert (member.uid, member.uname, member.gname) == (0, "", "")


def test_reading_files_follows_links_within_the_service_only(room: Enclave, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    room.sh("busybox", f"mkdir -p {tmp_path}; echo inside >{tmp_path}/secret; ln -sf {tmp_path}/secret /leads")
    with tarfile.open(fileobj=io.BytesIO(b"".join(room.site.read("busybox", "/leads")))) as tar:
        (member,) = tar.getmembers()
        file = tar.extractfile(member)
        assert file is not None
        assert file.read() == b"inside\n"


def test_commands_that_are_just_beginning_show_nothing_of_the_enclave(room: Enclave):
    """Between giving up its rights and its program, a command is visible to the service's own processes."""
    watching = """
import os, time
told = []
end = time.monotonic() + 3
while time.monotonic() < end:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) in (1, os.getpid()):
            continue
        try:
            for number in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{number}")
                if target.startswith(("socket", "mnt:", "net:", "pid:", "anon_inode")):
                    told.append(target)
        except OSError:
            pass
"""
    found: list[object] = []
    watcher = threading.Thread(target=lambda: found.append(python(room, watching)))
    watcher.start()
    while watcher.is_alive():
        room.site.exec("python", ["/bin/true"], None)
    watcher.join()
    assert found == [[]]


# What images contain is not trusted.


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the machine that must stay as it is."""
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "kept").write_text("kept")
    (directory / "hosts").symlink_to("kept")
    before = directory.stat().st_mtime_ns
    yield directory
    assert sorted(path.name for path in directory.iterdir()) == ["hosts", "kept"]
    assert (directory / "kept").read_text() == "kept"
    assert directory.stat().st_mtime_ns == before


LINKS = (
    "etc",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
    "dev",
    "dev/shm",
    "work",
    "given",
    "volume",
    "etc/passwd",
)


@pytest.mark.parametrize(
    "way", ["{victim}", "../../../../../../../../../..{victim}", "/proc/1/root{victim}", "/proc/self/cwd/.."]
)
def test_links_in_an_image_lead_nowhere_outside(images: MadeImages, victim: Path, tmp_path: Path, way: str):
    enclave = images.open()
    enclave.artifacts["files"] = tmp_path / "artifact"
    enclave.artifacts["files"].mkdir()
    for path in LINKS:
        image = images.make(link(path, way.format(victim=victim)), WorkingDir="/work/deep", Volumes={"/volume/x": {}})
        enclave.start(enclave.spec("hostile", image, cmd=FOREVER, files={"/given/x": "files"}))
        if "hostile" in enclave.site.observe():
            assert enclave.site.exec("hostile", ["cat", f"{victim}/kept"], None).code != 0
    assert list(enclave.artifacts["files"].iterdir()) == []


def test_descriptors_of_the_enclave_are_no_way_out_of_an_image(images: MadeImages, victim: Path):
    enclave = images.open()
    enclave.artifacts["files"] = victim
    numbers = range(3, 60)
    entries = [link(f"l{number}", f"/proc/self/fd/{number}") for number in numbers]
    image = images.make(*entries)
    for number in numbers:
        for above in ("", "/..", "/../../../../../../.."):
            outcome = enclave.start(
                enclave.spec("hostile", image, cmd=FOREVER, files={f"/l{number}{above}{victim}/new": "files"})
            )
            assert outcome["hostile"] is not None


@pytest.mark.parametrize("number", range(3, 12))
def test_a_working_directory_by_descriptor_leads_nowhere(images: MadeImages, victim: Path, number: int):
    enclave = images.open()
    for directory in (f"/proc/self/fd/{number}", "/proc/self/cwd/../..", "/proc/1/cwd"):
        spec = enclave.spec("hostile", images.make(WorkingDir=directory), cmd=FOREVER)
        if enclave.start(spec)["hostile"] is None:
            up = "../" * 20
            assert enclave.site.exec("hostile", ["cat", f"{up}{str(victim)[1:]}/kept"], None).code != 0


def test_an_image_may_have_anything_where_the_system_belongs(images: MadeImages):
    enclave = images.open()
    image = images.make(
        entry("proc", b"a file"),
        entry("dev", b"a file"),
        link("sys", "nowhere"),
        link("etc", "elsewhere/etc"),
        folder("elsewhere"),
    )
    spec = enclave.spec("odd", image, cmd=FOREVER)
    outcome = enclave.start(spec)["odd"]
    assert outcome is not None
    assert "/etc" in outcome.message
    enclave.up(
        "odd", images.make(entry("proc", b"a file"), entry("dev", b"a file"), link("sys", "nowhere")), cmd=FOREVER
    )
    assert enclave.sh("odd", "cat /proc/1/comm; ls /dev/null; ls /sys").split()[:2] == ["sleep", "/dev/null"]


def test_pipes_and_devices_in_an_image_hold_nothing_up(images: MadeImages):
    enclave = images.open()
    pipes = [
        entry(path, type=tarfile.FIFOTYPE, mode=0o666)
        for path in ("etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf")
    ]
    enclave.up("pipes", images.make(*pipes, User="5:6"), cmd=FOREVER)
    assert enclave.sh("pipes", "cat /etc/resolv.conf").split()[0] == "nameserver"
    found = status(enclave, "pipes", "1")
    assert (found["Uid"].split()[0], found["Gid"].split()[0]) == ("5", "6")
    outcome = enclave.start(enclave.spec("named", images.make(*pipes, User="somebody"), cmd=FOREVER))["named"]
    assert outcome is not None
    assert 'no user "somebody"' in outcome.message
