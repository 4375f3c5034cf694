"""The way out of enclaves on the embedded engine: to a network beside this machine, made for these tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded import launching
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.embedded.inside import egress, user_network
from pytest_enclave.engine.embedded.launching import Launcher
from pytest_enclave.engine.protocol import EnclaveId, PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.linux.netfilter import Netfilter
from pytest_enclave.linux.netlink import Netlink
from pytest_enclave.plan.events import Event, Warned
from tests.engine.egress_enclave import Egress
from tests.linux.child import NOBODY, ROOT, interpreter_for, library, run

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux: a network is made, and users are changed"
)

# In a network namespace of its own: says who calls, and is a name server that knows one name.
NEIGHBOUR = """
import os, socket, sys, threading
sys.path.insert(0, sys.argv[1])
from pytest_enclave.linux import syscalls
from pytest_enclave.linux.netlink import Netlink
syscalls.unshare(syscalls.CLONE_NEWNET)
print("made", flush=True)
sys.stdin.readline()
with Netlink() as links:
    links.up("lo")
    links.address("eth0", sys.argv[2], 30)
    links.up("eth0")
calls = socket.create_server((sys.argv[2], 8000))
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind((sys.argv[2], 53))
print("serves", flush=True)
def answer():
    while True:
        question, client = names.recvfrom(512)
        record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton("203.0.113.7")
        end = question.index(b"\\0", 12) + 5
        names.sendto(question[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + question[12:end] + record, client)
threading.Thread(target=answer, daemon=True).start()
while True:
    caller, (address, _) = calls.accept()
    with caller:
        caller.sendall(address.encode())
"""


class Neighbour:
    """A machine beside this one. `address` is its own, `ours` this machine's on the link between them."""

    def __init__(self) -> None:
        first = int.from_bytes(socket.inet_aton("198.18.0.0"), "big") + 4 * (os.getpid() % (1 << 15))
        self.ours, self.address = (socket.inet_ntoa((first + place).to_bytes(4, "big")) for place in (1, 2))
        self.link = f"beside{os.getpid() % 1000000}"
        command = [sys.executable, "-c", NEIGHBOUR, ROOT, self.address]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._hear("made")
        namespace = os.open(f"/proc/{self._process.pid}/ns/net", os.O_RDONLY)
        with Netlink() as links:
            links.veth(self.link, "eth0", peer_namespace_fd=namespace)
            links.address(self.link, self.ours, 30)
            links.up(self.link)
        os.close(namespace)
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self._hear("serves")

    def close(self) -> None:
        """End it, and with it the link."""
        with Netlink() as links:
            links.delete(self.link)
        self._process.kill()
        self._process.communicate()

    def _hear(self, word: str) -> None:
        assert self._process.stdout.readline().decode().strip() == word


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    beside = Neighbour()
    yield beside
    beside.close()


@pytest.fixture
def open_egress() -> Iterator[Callable[..., Egress]]:
    """Opens enclaves, which are closed at the end without leaving anything."""
    opened = []

    def open_one(plan: dict | None = {"servers": None}) -> Egress:  # noqa: B006
        opened.append(Egress(plan))
        return opened[-1]

    yield open_one
    assert [leak for each in opened for leak in each.close()] == []


def ours() -> set[str]:
    """Enclaves' links on this machine."""
    return {name for _, name in socket.if_nameindex() if name.startswith("enclave-")}


def alias(enclave: str) -> str:
    """The link of an enclave; empty if there is none."""
    for link in ours():
        with suppress(OSError):
            if Path(f"/sys/class/net/{link}/ifalias").read_text().strip() == f"pytest-enclave {enclave}":
                return link
    return ""


def traces(link: str) -> list[str]:
    """Where a link is named: tables, and chains with rules for it."""
    with Netfilter() as netfilter:
        chains = netfilter.chains()
        named = {chain.table for chain in chains if chain.table == link}
        for chain in chains:
            with suppress(FileNotFoundError):
                if any(f"{link}\0".encode() in rule.expressions for rule in netfilter.rules(chain)):
                    named.add(f"{chain.table}/{chain.name}")
    return sorted(named | (ours() & {link}))


def within(seconds: float, true: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return true()


def test_a_service_reaches_the_outside_as_this_machine(open_egress, neighbour: Neighbour):
    enclave = open_egress()
    assert enclave.told()["by"] == "nat"
    enclave.up("a")
    assert enclave.evaluate(f"hear({neighbour.address!r}, 8000)") == neighbour.ours


def test_many_enclaves_with_the_same_network_inside_have_each_its_way_out(open_egress, neighbour: Neighbour):
    enclaves = [open_egress() for _ in range(4)]
    assert [each.up("a") for each in enclaves] == ["10.77.0.2"] * 4
    heard = [each.evaluate(f"hear({neighbour.address!r}, 8000)") for each in enclaves]
    assert heard == [neighbour.ours] * 4
    assert len({alias(each.name) for each in enclaves}) == 4


def test_a_service_that_calls_in_its_first_moment_has_its_way_out_soon(open_egress, neighbour: Neighbour):
    enclave = open_egress()
    enclave.up("a")
    begun = time.monotonic()
    while enclave.evaluate(f"reach({neighbour.address!r}, 8000)") == "nothing":
        assert time.monotonic() < begun + 5
    assert enclave.told()["by"] == "nat"


def test_with_egress_off_nothing_outside_is_reached(open_egress, neighbour: Neighbour):
    enclave = open_egress(None)
    enclave.up("a")
    assert enclave.told() | {"id": 0} == {"id": 0, "by": None, "reason": "it is switched off", "servers": []}
    assert enclave.evaluate(f"reach({neighbour.address!r}, 8000), reach({neighbour.ours!r}, 22)") == "nothing nothing"
    assert alias(enclave.name) == ""


@pytest.mark.parametrize("switch", [True, False])
def test_the_engine_gives_a_way_out_unless_it_is_switched_off(switch: bool):
    engine = EmbeddedEngine(egress=switch)
    id_ = EnclaveId(f"egress-switch-{os.getpid()}-{switch}")
    site = engine.open(id_)
    try:
        assert within(5, lambda: bool(alias(id_.name))) is switch or not switch
        assert bool(alias(id_.name)) is switch
    finally:
        assert site.close() == []
        engine.close()


SERVE = ("/usr/bin/python3", "-m", "http.server", "8000")


def test_another_enclaves_services_are_not_reached(open_egress, neighbour: Neighbour):
    one, other = open_egress(), open_egress()
    one.up("a")
    other.up("a")
    there = other.up("b", SERVE)
    assert within(10, lambda: other.client.ask({"do": "accepts", "name": "b", "port": 8000})["accepts"])
    told = [each.told()["by"] for each in (one, other)]
    assert told == ["nat", "nat"]
    transit = other.evaluate(OWN_TRANSIT.format(link=alias(other.name)))
    found = one.evaluate(f"reach({there!r}, 8000), reach({transit!r}, 8000)")
    assert found == "nothing nothing"


OWN_TRANSIT = """(lambda number: socket.inet_ntoa((0xA9FEC000 + 4 * number + 2).to_bytes(4, "big")))\
(int("{link}".rpartition("-")[2]))"""


def test_listeners_on_this_machines_loopback_are_not_reached(open_egress):
    enclave = open_egress()
    enclave.up("a")
    link = within(5, lambda: bool(alias(enclave.name))) and alias(enclave.name)
    gateway = socket.inet_ntoa((0xA9FEC000 + 4 * int(link.rpartition("-")[2]) + 1).to_bytes(4, "big"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        tried = [f"reach({host!r}, {port})" for host in ("127.0.0.1", "127.0.0.2", "10.77.0.1", gateway)]
        assert enclave.evaluate(", ".join(tried)) == "nothing nothing nothing nothing"


def test_other_names_are_asked_of_the_machines_name_servers(open_egress, neighbour: Neighbour):
    enclave = open_egress({"servers": [neighbour.address]})
    enclave.up("a")
    enclave.told()
    assert enclave.evaluate("socket.gethostbyname('beside.example')") == "203.0.113.7"


@pytest.mark.parametrize(
    ("first", "second", "servers"),
    [
        ("nameserver 192.0.2.53\nnameserver 2001:db8::1\n", "nameserver 192.0.2.9", ["192.0.2.53"]),
        ("# stub\nnameserver 127.0.0.53\noptions edns0\n", "nameserver 192.0.2.9\n", ["192.0.2.9"]),
        ("nameserver 127.0.0.1\n", None, []),
    ],
)
def test_name_servers_on_the_loopback_are_replaced_by_those_behind_them(
    first: str, second: str | None, servers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "first").write_text(first)
    if second is not None:
        (tmp_path / "second").write_text(second)
    monkeypatch.setattr(egress, "RESOLVERS", (str(tmp_path / "first"), str(tmp_path / "second")))
    assert egress.name_servers() == servers


def test_a_closed_enclave_leaves_neither_link_nor_rule():
    enclave = Egress({"servers": None})
    enclave.told()
    link = alias(enclave.name)
    assert {link, f"{link}/forward"} <= set(traces(link))
    assert enclave.close() == []
    assert set(traces(link)) <= {link, f"{link}/forward"}
    assert within(2, lambda: traces(link) == []), traces(link)


OPEN = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.engine.egress_enclave import DIRECTORY, Egress
enclave = Egress({"servers": None})
enclave.told()
print(enclave.name, DIRECTORY, flush=True)
sys.stdin.readline()
"""


def killed(which: Callable[[int, str], int]) -> tuple[str, str]:
    """The link of an enclave of which a process was killed, and the directory with its socket."""
    opener = subprocess.Popen([sys.executable, "-c", OPEN, ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    name, directory = opener.stdout.readline().decode().split()
    link = alias(name)
    assert link in traces(link)
    os.kill(which(opener.pid, name), signal.SIGKILL)
    opener.communicate()
    return link, directory


def supervisor_of(_: int, name: str) -> int:
    """The supervisor is the one that listens at the enclave's socket's directory: the parent of boot."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "ns/uts").stat().st_ino != os.stat("/proc/self/ns/uts").st_ino:
                host = subprocess.run(
                    ["nsenter", f"--uts={entry}/ns/uts", "hostname"], capture_output=True, text=True, check=False
                )
                if host.stdout.strip() == name:
                    return parent(parent_of_init(int(entry.name)))
    raise AssertionError(f"no process of {name}")


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def parent_of_init(process: int) -> int:
    """Up to boot, which has the enclave's host name too but is in this machine's namespace of processes."""
    while os.stat(f"/proc/{process}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino:
        process = parent(process)
    return process


def test_nothing_is_left_when_the_opener_is_killed():
    link, directory = killed(lambda opener, _: opener)
    assert within(2, lambda: traces(link) == [] and not os.path.exists(directory)), traces(link)


def test_what_a_killed_supervisor_leaves_is_removed_by_the_next(open_egress):
    link, directory = killed(supervisor_of)
    assert within(2, lambda: link not in ours())
    assert link not in traces(link), "its own table ends with it"
    open_egress().told()
    assert traces(link) == []
    shutil.rmtree(directory)


def test_forwarding_that_was_off_is_off_again_after_the_last_enclave():
    told = run(
        """
        syscalls.unshare(syscalls.CLONE_NEWNET)
        import socket, time
        from pytest_enclave.engine.embedded.inside import forwarding
        from tests.engine.egress_enclave import Egress
        def write(path, text):
            with open(path, "w") as file:
                file.write(text)
        def settings():
            return [open(f"/proc/sys/net/ipv4/conf/{name}/forwarding").read().strip() for name in ("all", "main")]
        with Netlink() as net:
            net.up("lo")
            net.veth("main", "other")
        for name in ("all", "default", "main"):
            write(f"/proc/sys/net/ipv4/conf/{name}/forwarding", "0")
        one, two = Egress({"servers": None}), Egress({"servers": None})
        assert one.told()["by"] == two.told()["by"] == "nat", one.told()
        def wait_for(count):
            until = time.monotonic() + 3
            while time.monotonic() < until and len(found()) > count:
                time.sleep(0.01)
            time.sleep(0.2)
        def found():
            return [name for _, name in socket.if_nameindex() if name.startswith("enclave-")]
        print(settings())
        one.close()
        wait_for(1)
        print(settings())
        two.close()
        wait_for(0)
        print(settings(), os.path.exists(forwarding._path()))
        three = Egress({"servers": None})
        three.told()
        write("/proc/sys/net/ipv4/ip_forward", "1")
        three.close()
        wait_for(0)
        print(settings(), os.path.exists(forwarding._path()))
    """,
        with_engine=True,
    )
    assert told.splitlines() == [
        "['0', '1']",
        "['0', '1']",
        "['0', '0'] False",
        "['1', '1'] False",
    ]


ROUTER = """
import select, signal, socket, time
from pytest_enclave.engine.embedded.inside import filters, forwarding
from pytest_enclave.linux.netfilter import Netfilter
from tests.engine.egress_enclave import Egress
syscalls.unshare(syscalls.CLONE_NEWNET)
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
def beside(name, number):
    "A machine on a link of this one's: told who calls whom, it calls; it says who it is to whoever calls."
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process == 0:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        ours.close()
        syscalls.unshare(syscalls.CLONE_NEWNET)
        theirs.send(b".")
        theirs.recv(1)
        with Netlink() as net:
            net.up("lo")
            net.address("eth0", f"198.18.{number}.2", 30)
            net.up("eth0")
            net.gateway(f"198.18.{number}.1")
        server = socket.create_server((f"198.18.{number}.2", 8000))
        theirs.send(b".")
        while True:
            ready = select.select([server, theirs], [], [])[0]
            if server in ready:
                caller, _ = server.accept()
                caller.sendall(name.encode())
                caller.close()
            if theirs in ready:
                target = theirs.recv(100).decode()
                if not target:
                    os._exit(0)
                try:
                    with socket.create_connection((target, 8000), timeout=0.5) as call:
                        theirs.send(call.recv(100))
                except OSError:
                    theirs.send(b"nothing")
    theirs.close()
    ours.recv(1)
    namespace = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
    with Netlink() as net:
        net.veth(name, "eth0", peer_namespace_fd=namespace)
        net.address(name, f"198.18.{number}.1", 30)
        net.up(name)
    os.close(namespace)
    ours.send(b".")
    ours.recv(1)
    return ours
def calls(caller, number):
    caller.send(f"198.18.{number}.2".encode())
    return caller.recv(100).decode()
def tables():
    with Netfilter() as netfilter:
        return {chain.table for chain in netfilter.chains()}
def within(seconds, true):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()
with Netlink() as net:
    net.up("lo")
for name in ("all", "default"):
    write(f"/proc/sys/net/ipv4/conf/{name}/forwarding", "0")
left, right = beside("left", 1), beside("right", 2)
"""


def test_a_machine_that_was_no_router_is_none_between_its_own_networks():
    told = run(
        f"""{ROUTER}
print("before:", calls(left, 2), calls(right, 1))
one, two = Egress({{"servers": None}}), Egress({{"servers": None}})
assert one.told()["by"] == two.told()["by"] == "nat", one.told()
one.up("a")
print("meanwhile:", calls(left, 2), calls(right, 1))
print("services:", one.evaluate("hear('198.18.1.2', 8000)"), one.evaluate("hear('198.18.2.2', 8000)"))
one.close()
print("one closed:", calls(left, 2), filters.GUARD in tables())
two.close()
print("closed:", within(3, lambda: filters.GUARD not in tables()), calls(left, 2))
""",
        with_engine=True,
    )
    assert told.splitlines() == [
        "before: nothing nothing",
        "meanwhile: nothing nothing",
        "services: left right",
        "one closed: nothing True",
        "closed: True nothing",
    ]


def test_links_that_forwarded_before_go_on_and_so_does_all_where_somebody_wants_a_router():
    told = run(
        f"""{ROUTER}
third = beside("third", 3)
for name in ("left", "third"):
    write(f"/proc/sys/net/ipv4/conf/{{name}}/forwarding", "1")
print("before:", calls(left, 3), calls(right, 1))
one = Egress({{"servers": None}})
assert one.told()["by"] == "nat"
print("meanwhile:", calls(left, 3), calls(right, 1))
write("/proc/sys/net/ipv4/ip_forward", "1")
two = Egress({{"servers": None}})
two.told()
print("a router:", calls(left, 3), calls(right, 1))
one.close(), two.close()
within(3, lambda: not os.path.exists(forwarding._path()))
print("closed:", calls(right, 1), filters.GUARD in tables())
""",
        with_engine=True,
    )
    assert told.splitlines() == [
        "before: third nothing",
        "meanwhile: third nothing",
        "a router: third left",
        "closed: left False",
    ]


def test_what_a_killed_supervisor_leaves_switched_on_stays_guarded():
    told = run(
        f"""{ROUTER}
one = Egress({{"servers": None}})
one.told()
launcher = one._launcher._process.pid
(supervisor,) = open(f"/proc/{{launcher}}/task/{{launcher}}/children").read().split()
os.kill(int(supervisor), signal.SIGKILL)
gone = lambda: not any(name.startswith("enclave-") for _, name in socket.if_nameindex())
print("killed:", within(3, gone), calls(left, 2))
two = Egress({{"servers": None}})
print("the next:", two.told()["by"], calls(left, 2))
two.close()
print("closed:", within(3, lambda: filters.GUARD not in tables()), calls(left, 2))
one.close()
""",
        with_engine=True,
    )
    assert told.splitlines() == ["killed: True nothing", "the next: nat nothing", "closed: True nothing"]


def test_an_enclave_is_opened_as_fast_with_a_way_out_as_without():
    launcher = Launcher()
    times: dict[str, list[float]] = {"open, on": [], "open, off": [], "told": [], "close, on": [], "close, off": []}
    for step in range(30):
        switch = ("off", "on")[step % 2]
        begun = time.perf_counter()
        enclave = Egress({"servers": None} if switch == "on" else None, launcher)
        opened = time.perf_counter()
        times[f"open, {switch}"].append(opened - begun)
        enclave.told()
        if switch == "on":
            times["told"].append(time.perf_counter() - opened)
        closing = time.perf_counter()
        assert enclave.close() == []
        times[f"close, {switch}"].append(time.perf_counter() - closing)
    launcher.close()
    median = {name: statistics.median(found) for name, found in times.items()}
    # The bounds are for a loaded machine: idle, opening differs by less than a millisecond.
    assert median["open, on"] < median["open, off"] * 2 + 0.02, median
    assert median["told"] < 0.25, median


# What users are told


@pytest.fixture
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where neither translation nor a program can be a way out."""
    change = "from pytest_enclave.engine.embedded.inside import nat, user_network\n"
    change += "def refuse(*_): raise OSError('no links are to be had')\n"
    change += "nat.Nat.connect = refuse\nuser_network.DIRECTORIES = ()\nmain()"
    monkeypatch.setattr(launching, "PROGRAM", launching.PROGRAM.replace("main()", change))


def warnings(engine: EmbeddedEngine) -> list[Problem]:
    told: list[Event] = []
    assert engine.resolve_images(["host:/"], PullPolicy.MISSING, told.append) == {"host:/": "host:/"}
    return [event.problem for event in told if isinstance(event, Warned)]


def heard(engine: EmbeddedEngine) -> bool:
    return all(future.done() for _, future in engine._ways_out._asked)


@pytest.mark.usefixtures("no_way_out")
def test_an_enclave_without_a_way_out_is_warned_of_once():
    engine = EmbeddedEngine()
    sites = [engine.open(EnclaveId(f"egress-told-{os.getpid()}-{number}")) for number in range(2)]
    assert within(5, lambda: heard(engine))
    told = warnings(engine)
    assert [problem.message for problem in told] == [
        f"services of egress-told-{os.getpid()}-{number} have no way out to other networks: no links are to be had; "
        "neither slirp4netns nor pasta is installed: install the package slirp4netns or passt"
        for number in range(2)
    ]
    assert {(problem.remedy, problem.severity) for problem in told} == {
        (
            "mend that; or, if nothing outside is needed, run with `--enclave-egress=off`, which says no more of it",
            "warning",
        )
    }
    assert warnings(engine) == []
    assert [leak for site in sites for leak in site.close()] == []
    engine.close()


@pytest.mark.usefixtures("no_way_out")
def test_an_enclave_that_is_to_have_no_way_out_is_not_warned_of():
    engine = EmbeddedEngine(egress=False)
    site = engine.open(EnclaveId(f"egress-told-{os.getpid()}"))
    site.observe()
    assert warnings(engine) == []
    site.close()
    engine.close()


def test_an_enclave_with_a_way_out_or_that_has_ended_is_not_warned_of():
    engine = EmbeddedEngine()
    for number in range(2):
        site = engine.open(EnclaveId(f"egress-told-{os.getpid()}-{number}"))
        assert number or within(5, lambda: heard(engine))
        site.close()
    assert within(5, lambda: heard(engine))
    assert warnings(engine) == []
    engine.close()


# Plain users


@pytest.fixture(scope="module", params=["slirp4netns", "pasta"])
def program(request: pytest.FixtureRequest) -> str:
    """A program that gives plain users their way out, installed from the distribution if it is missing."""
    if not shutil.which(request.param):
        if not shutil.which("apt-get"):
            pytest.fail(f"these tests need {request.param}: here only Debian and Ubuntu can install it")
        package = {"pasta": "passt"}.get(request.param, request.param)
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            done = subprocess.run(["apt-get", "-qq", *command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return request.param


# As on most machines, where everybody may make such links; seen by the user's processes alone.
AS_USER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.linux import mounts, syscalls
syscalls.unshare(syscalls.CLONE_NEWNS)
mounts.private_root()
syscalls.mount("tmpfs", "/mnt", "tmpfs")
os.mknod("/mnt/tun", 0o20666, os.makedev(10, 200))
os.chmod("/mnt/tun", 0o666)
mounts.bind("/mnt/tun", "/dev/net/tun")
user = int(sys.argv[2])
os.setgroups([])
os.setgid(user)
os.setuid(user)
os.execv(sys.argv[3], [sys.argv[3], "-c", "import sys; sys.path[:0] = sys.argv.pop(1), sys.argv.pop(1); "
    "from tests.engine.egress_enclave import main; main(sys.argv[1])", *sys.argv[1:2], *sys.argv[4:]])
"""


class PlainUser:
    """An enclave of a user who is not root."""

    def __init__(self, program: str) -> None:
        interpreter = interpreter_for(NOBODY)
        assert interpreter, "these tests need an interpreter and code that a plain user can read"
        command = [sys.executable, "-c", AS_USER, ROOT, str(NOBODY), interpreter, library(), program]
        self.process = subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.told = json.loads(self.process.stdout.readline())

    def evaluate(self, expression: str) -> str:
        print(expression, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> list:
        return json.loads(self.process.communicate(timeout=30)[0])


@pytest.fixture
def user(program: str) -> Iterator[PlainUser]:
    found = PlainUser(program)
    yield found
    found.process.kill()
    found.process.communicate()


def running(program: str) -> list[int]:
    """Processes of the plain user that run this program."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if words and words[0].endswith(f"/{program}".encode()) and entry.stat().st_uid == NOBODY:
                found.append(int(entry.name))
    return found


def test_a_plain_users_services_reach_the_outside(program: str, user: PlainUser, neighbour: Neighbour):
    assert user.told["by"] == program, user.told
    assert user.evaluate(f"hear({neighbour.address!r}, 8000)") == neighbour.ours
    assert running(program)
    assert user.close() == []
    assert running(program) == []


def test_a_plain_users_services_do_not_reach_this_machines_loopback(user: PlainUser):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hosts = ["127.0.0.1", "10.77.0.1", "169.254.254.1", "169.254.254.2", "169.254.254.3", "169.254.254.4"]
        hosts += default_gateway()
        tried = [f"reach({host!r}, {listener.getsockname()[1]})" for host in hosts]
        assert user.evaluate(", ".join(tried)) == " ".join(["nothing"] * len(hosts))
    assert user.close() == []


def default_gateway() -> list[str]:
    rows = [line.split() for line in Path("/proc/net/route").read_text().splitlines()]
    return [socket.inet_ntoa(int(row[2], 16).to_bytes(4, sys.byteorder)) for row in rows if row[1] == "00000000"]


def test_the_program_ends_with_a_plain_user_that_is_killed(program: str, user: PlainUser):
    assert user.told["by"] == program
    user.process.kill()
    assert within(3, lambda: running(program) == []), running(program)


def test_what_a_plain_user_lacks_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(user_network, "DIRECTORIES", (str(tmp_path),))
    assert user_network.missing() == (
        "neither slirp4netns nor pasta is installed: install the package slirp4netns or passt"
    )
    (tmp_path / "pasta").touch(0o755)
    assert user_network.find() == ("pasta", str(tmp_path / "pasta"))
    monkeypatch.setattr(user_network, "DEVICE", str(tmp_path / "tun"))
    assert user_network.missing() == f"{tmp_path}/tun is not there for this user: `sudo chmod 666 {tmp_path}/tun`"
