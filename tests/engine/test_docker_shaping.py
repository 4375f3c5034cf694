"""How traffic is shaped on a Docker engine: by whom, what that leaves, and what happens to it by others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from msgspec import structs

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.local_shaper import NEEDS, LocalShaper
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.shape import ShaperPlan, Surroundings
from pytest_enclave.engine.docker.shaper.attachment import Attachment, _network_of
from pytest_enclave.engine.docker.shaper.serving import NICE
from pytest_enclave.engine.protocol import Action, EnclaveId
from pytest_enclave.errors import EngineError
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.linux.netfilter import Netfilter
from pytest_enclave.plan.connections import BLOCKED, Connection
from tests.engine.engine_enclave import BUSYBOX, PYTHON, Enclave, enclave_id
from tests.engine.shaped_services import ECHO, SERVER, Talk, blocked, both_ways, delay

SESSION = Path(__file__).with_name("shaped_session.py")

GONE = 15.0
"""Seconds after which nothing of a killed process is left."""


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    """The engine, seen from outside."""
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


@pytest.fixture(scope="module")
def sidecar_engine(docker_host: str) -> Iterator[DockerEngine]:
    """The engine as for somebody who is not root there."""
    engine = DockerEngine(docker_host, shaper=ShaperPlan(PYTHON, sidecars=True))
    yield engine
    assert engine.close() == []


@pytest.fixture
def talk(docker_engine: DockerEngine, open_enclave: Callable[..., Enclave]) -> Talk:
    """Two services that answer each other."""
    talk = Talk(open_enclave(docker_engine))
    talk.up("a", "b")
    return talk


@pytest.fixture
def beside(sidecar_engine: DockerEngine, open_enclave: Callable[..., Enclave]) -> Talk:
    """Two services that answer each other, whose traffic is shaped by sidecars."""
    talk = Talk(open_enclave(sidecar_engine))
    talk.up("a", "b")
    return talk


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of an enclave, of any length."""
    path = tmp_path.joinpath(*["a-long-name" * 5] * 3, "home")
    path.mkdir(parents=True)
    return path


@pytest.fixture
def shared(docker_engine: DockerEngine, home: Path) -> Iterator[tuple[Talk, Callable[[], Talk]]]:
    """An enclave with a home and two services that answer each other; and a way for others to use it as well."""
    id_ = EnclaveId(enclave_id().name, str(home))
    enclave = Enclave(docker_engine.open(id_), id_)
    others: list[Enclave] = []

    def attach() -> Talk:
        others.append(Enclave(docker_engine.attach(id_), id_))
        return Talk(others[-1])

    talk = Talk(enclave)
    talk.up("a", "b")
    yield talk, attach
    for other in others:
        other.site.leave()
    assert enclave.site.close() == []


def shapers(holder: int | None = None) -> list[int]:
    """The processes that shape traffic for that process, for this one if none is named."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if any("shaper.serving import main\n" in word for word in words) and words[-2] == str(
                holder or os.getpid()
            ):
                found.append(int(path.parent.name))
    return found


def shaper_of(talk: Talk) -> int:
    """The process that shapes an enclave's traffic: the last that was started for this process."""
    assert talk.enclave.site.shaped()
    return max(shapers(), key=lambda pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def sidecars(client: docker.APIClient, name: str) -> dict[str, str]:
    """The sidecars of an enclave, by their service."""
    mine = {"label": [f"{labels.ENCLAVE}={name}", labels.SHAPER]}
    return {each["Labels"][labels.SHAPER]: each["Id"] for each in client.containers(all=True, filters=mine)}


def process_of(client: docker.APIClient, talk: Talk, name: str) -> int:
    """The process of a service."""
    return int(client.inspect_container(f"{talk.enclave.id.name}-{name}")["State"]["Pid"])


def rules(client: docker.APIClient, talk: Talk, name: str) -> dict[str, int]:
    """How many rules each chain of ours has in a service's network namespace."""
    address = talk.enclave.site.reserve(name).ip_address
    with _network_of(process_of(client, talk, name), address):
        netfilter = Netfilter()
    with netfilter:
        ours = [chain for chain in netfilter.chains() if chain.table == "enclave-connections"]
        return {chain.name: len(netfilter.rules(chain)) for chain in ours}


def eventually(is_so: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether something becomes so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# One process for all, where this is root on the engine's machine


def test_nothing_is_there_where_nothing_was_said(client, talk):
    before = shapers()
    talk.shape({})
    assert talk.enclave.site.shaped() == {}
    assert shapers() == before
    assert rules(client, talk, "a") == {}


def test_one_process_holds_what_arrives_from_the_services_that_were_named(client, talk):
    before = shapers()
    talk.up("c")
    talk.shape({("a", "b"): BLOCKED, ("c", "b"): delay(1)})
    assert len(shapers()) == len(before) + 1
    assert sidecars(client, talk.enclave.id.name) == {}
    assert rules(client, talk, "b") == {"arriving": 2, "leaving": 0}
    assert rules(client, talk, "a") == rules(client, talk, "c") == {"arriving": 0, "leaving": 0}
    talk.shape({})
    assert rules(client, talk, "b") == {"arriving": 0, "leaving": 0}


def test_what_goes_to_a_service_that_does_not_run_is_held_where_it_leaves(client, talk):
    talk.shape({("a", "b"): delay(10)})
    assert rules(client, talk, "a") == {"arriving": 0, "leaving": 0}
    talk.enclave.site.act("b", Action.STOP)
    assert eventually(lambda: rules(client, talk, "a") == {"arriving": 0, "leaving": 1})
    talk.enclave.site.act("b", Action.START)
    assert rules(client, talk, "a") == {"arriving": 0, "leaving": 0}
    assert rules(client, talk, "b") == {"arriving": 1, "leaving": 0}


def test_the_process_comes_before_all_that_is_not_as_urgent(talk):
    talk.shape(blocked("a", "b"))
    shaper = shaper_of(talk)
    in_real_time = os.sched_getscheduler(shaper) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    assert in_real_time or os.getpriority(os.PRIO_PROCESS, shaper) == NICE


def test_the_process_ends_with_the_enclave(talk):
    talk.shape(blocked("a", "b"))
    shaper = shaper_of(talk)
    assert talk.enclave.site.close() == []
    assert eventually(lambda: shaper not in shapers())


def test_a_process_that_was_killed_lets_all_pass_and_the_next_one_takes_over(client, talk):
    talk.shape(blocked("a", "b"))
    os.kill(shaper_of(talk), signal.SIGKILL)
    assert eventually(lambda: rules(client, talk, "b") == {})
    assert talk.came_back("a", "b") == 20
    assert talk.enclave.site.shaped() == {}
    talk.shape({})
    assert talk.enclave.site.shaped() == {}
    talk.shape(blocked("a", "b"))
    assert talk.enclave.site.shaped() == blocked("a", "b")
    assert talk.came_back("a", "b") == 0


def test_a_service_that_is_started_behind_our_back_stays_shaped(client, talk):
    talk.shape(blocked("a", "b"))
    for doing in (client.restart, client.kill):
        doing(f"{talk.enclave.id.name}-b")
    client.start(f"{talk.enclave.id.name}-b")
    talk.enclave.wait_open("b", ECHO)
    assert talk.came_back("a", "b") == 0


FLOOD = """
import socket, sys, time
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to, word = sys.argv[1:]
while True:
    try:
        own.sendto(f"note {word} 1".encode(), (to, 7000))
    except OSError:
        pass
    time.sleep(0.0005)
"""
"""Sends datagrams that are noted down where they arrive, without an end."""

BOTH = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[3:]])
exec(sys.argv[2])
"""


@pytest.mark.docker
@pytest.mark.parametrize("way", ["talk", "beside"])
def test_not_one_packet_passes_from_or_to_a_newcomer(way, request):
    talk: Talk = request.getfixturevalue(way)
    enclave = talk.enclave
    pair = {name: enclave.site.reserve(name).ip_address for name in ("one", "other")}
    flood = ("python3", "-c", FLOOD)
    for name in pair:
        enclave.up(f"near-{name}", PYTHON, entrypoint=(*flood, pair[name], "open"), cmd=())
        enclave.up(f"far-{name}", PYTHON, entrypoint=(*flood, pair[name], "far"), cmd=())
    far = {end for name in pair for end in ((f"far-{name}", name), (name, f"far-{name}"), (name, "a"))}
    talk.shape({**blocked("one", "other"), **dict.fromkeys(far, BLOCKED)})
    newcomers = [
        enclave.spec(name, PYTHON, entrypoint=("python3", "-c", BOTH, FLOOD, SERVER, pair[to], "new"), cmd=())
        for name, to in zip(pair, reversed(pair), strict=True)
    ]
    assert set(enclave.start(*newcomers).values()) == {None}
    for name in pair:
        assert eventually(lambda: len(talk.noted(name, "open")) > 100, 10)  # noqa: B023
        assert {word: len(talk.noted(name, word)) for word in ("far", "new")} == {"far": 0, "new": 0}


def test_services_that_end_while_packets_come_leave_the_others_shaped(client, talk):
    flood = ("python3", "-c", FLOOD, talk.enclave.site.reserve("b").ip_address, "blocked")
    talk.enclave.up("flood", PYTHON, entrypoint=flood, cmd=())
    talk.shape({**blocked("a", "b"), **blocked("flood", "b")})
    shaper = shaper_of(talk)
    for _ in range(3):
        client.restart(f"{talk.enclave.id.name}-b", timeout=0)
        client.kill(f"{talk.enclave.id.name}-flood")
        client.start(f"{talk.enclave.id.name}-flood")
    talk.enclave.wait_open("b", ECHO)
    assert shaper_of(talk) == shaper
    assert talk.came_back("a", "b") == 0


def test_a_process_of_another_machine_is_not_taken_for_a_container():
    with pytest.raises(ProcessLookupError, match=r"no process 1 is at 192\.0\.2\.1"):
        Attachment("container", "192.0.2.1", 1)
    with pytest.raises(ProcessLookupError, match="is in no network of its own"):
        Attachment("container", "127.0.0.1", os.getpid())


def test_an_engine_whose_processes_are_not_seen_gets_sidecars(client, docker_host, open_enclave, monkeypatch):
    engine = DockerEngine(docker_host, shaper=ShaperPlan(PYTHON))
    monkeypatch.setattr("pytest_enclave.engine.docker.shaper.attachment.is_at", lambda pid, address: False)
    talk = Talk(open_enclave(engine))
    talk.up("a", "b")
    talk.shape(blocked("a", "b"))
    assert set(sidecars(client, talk.enclave.id.name)) == {"a", "b"}
    assert talk.came_back("a", "b") == 0
    assert talk.enclave.site.close() == []
    engine.close()


def test_an_engine_that_is_no_process_of_here_gets_sidecars_before_anything_runs(docker_host, tmp_path, monkeypatch):
    def seen(number: int) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr("struct.unpack", lambda form, data: (number, 0, 0))
            return LocalShaper(around).is_possible({"a": "192.0.2.1"}, dict)

    around = Surroundings(None, docker_host, "e", {}, Notes(str(tmp_path)), os.getpid())  # type: ignore[arg-type]
    assert LocalShaper(around).is_possible({"a": "192.0.2.1"}, dict)
    assert seen(17)
    assert not seen(0)
    absent = structs.replace(around, endpoint=f"unix://{tmp_path}/nobody")
    assert not LocalShaper(absent).is_possible({"a": "192.0.2.1"}, dict)


def test_who_is_not_root_gets_sidecars(client, docker_host, open_enclave, monkeypatch):
    engine = DockerEngine(docker_host, shaper=ShaperPlan(PYTHON))
    talk = Talk(open_enclave(engine))
    talk.up("a", "b")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    talk.shape(both_ways(delay(50), "a", "b"))
    assert set(sidecars(client, talk.enclave.id.name)) == {"a", "b"}
    assert 100 <= talk.round_trip("a", "b") < 150
    assert talk.enclave.site.close() == []
    engine.close()


# Processes that share an enclave


def test_what_one_process_says_holds_for_all(shared):
    talk, attach = shared
    other = attach()
    assert other.enclave.site.shaped() == {}
    other.shape(both_ways(delay(50), "a", "b"))
    assert talk.enclave.site.shaped() == both_ways(delay(50), "a", "b")
    assert 100 <= talk.round_trip("a", "b") < 150
    talk.shape(blocked("a", "b"))
    assert other.enclave.site.shaped() == blocked("a", "b")
    assert other.came_back("a", "b") == 0


def test_a_service_that_another_process_starts_or_starts_again_is_shaped(shared):
    talk, attach = shared
    talk.enclave.site.reserve("c")
    talk.shape({**blocked("a", "c"), **both_ways(delay(50), "a", "b")})
    other = attach()
    other.up("c")
    other.restart("b")
    assert talk.came_back("a", "c") == 0
    assert 100 <= talk.round_trip("a", "b") < 150
    talk.shape({})
    assert talk.came_back("a", "c") == 20


def test_what_another_process_has_just_started_is_shaped(shared):
    talk, attach = shared
    attach().up("c")
    talk.shape(blocked("a", "c"))
    assert talk.came_back("a", "c") == 0


def test_an_enclave_that_is_removed_by_name_takes_its_process_along(docker_engine, home):
    id_ = EnclaveId(enclave_id().name, str(home))
    talk = Talk(Enclave(docker_engine.open(id_), id_))
    talk.up("a", "b")
    talk.shape(blocked("a", "b"))
    shaper = shaper_of(talk)
    assert docker_engine.remove(id_) == []
    assert eventually(lambda: shaper not in shapers())
    assert talk.enclave.site.close() == []


# Sessions that end


def begin(docker_host: str, state: Path, *options: str) -> tuple[str, subprocess.Popen[str]]:
    """A process whose enclave is shaped; the enclave's name."""
    name = enclave_id().name
    process = subprocess.Popen(
        [sys.executable, str(SESSION), docker_host, name, *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(state), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "shaped\n"
    return name, process


@pytest.mark.parametrize("options", [(), ("--sidecars",)], ids=["local", "sidecars"])
def test_a_session_that_was_killed_leaves_nothing(client, docker_host, tmp_path, options):
    name, process = begin(docker_host, tmp_path, *options)
    mine = {"label": [f"{labels.ENCLAVE}={name}"]}
    assert len(shapers(process.pid)) == (not options)
    assert len(client.containers(filters=mine)) == (4 if options else 2)
    process.kill()
    process.communicate()
    assert eventually(lambda: shapers(process.pid) == [], 2)
    assert eventually(lambda: client.containers(all=True, filters=mine) == [], GONE)
    assert eventually(lambda: client.networks(filters=mine) == [], GONE)


def test_an_enclave_that_is_kept_loses_its_shape_with_the_session(client, docker_host, docker_engine, tmp_path):
    name, process = begin(docker_host, tmp_path, "--keep")
    assert process.communicate()[0] == ""
    assert process.returncode == 0
    assert eventually(lambda: shapers(process.pid) == [], 2)
    id_ = EnclaveId(name, str(Ledger.of({"XDG_STATE_HOME": str(tmp_path)}).path(name)))
    talk = Talk(Enclave(docker_engine.attach(id_), id_))
    assert rules(client, talk, "a") == {}
    assert talk.enclave.site.shaped() == {}
    talk.shape(blocked("a", "b"))
    assert talk.enclave.site.shaped() == blocked("a", "b")
    assert rules(client, talk, "a") == {"arriving": 1, "leaving": 0}
    assert talk.enclave.site.close() == []


# Sidecars


def test_a_sidecar_is_beside_each_service_that_something_is_between(client, beside):
    beside.up("c")
    beside.shape({("a", "b"): Connection(loss=100)})
    found = sidecars(client, beside.enclave.id.name)
    assert set(found) == {"a", "b"}
    host = client.inspect_container(found["a"])["HostConfig"]
    assert (host["CapAdd"], host["CapDrop"]) == (["NET_ADMIN"], ["ALL"])
    service = client.inspect_container(f"{beside.enclave.id.name}-a")["Id"]
    assert host["NetworkMode"] == f"container:{service}"
    assert beside.enclave.site.shaped() == {("a", "b"): BLOCKED}
    assert set(beside.enclave.site.observe()) == {"a", "b", "c"}
    beside.note("a", "b", "blocked")
    beside.note("b", "a", "open")
    assert beside.noted("a", "open") == list(range(20))
    assert beside.noted("b", "blocked") == []


def test_sidecars_change_what_they_do_and_heal(client, beside):
    beside.shape(both_ways(delay(100), "a", "b"))
    before = sidecars(client, beside.enclave.id.name)
    assert 200 <= beside.round_trip("a", "b") < 250
    beside.shape(blocked("a", "b"))
    assert beside.came_back("a", "b") == 0
    beside.shape({})
    assert beside.enclave.site.shaped() == {}
    assert beside.came_back("a", "b") == 20
    assert sidecars(client, beside.enclave.id.name) == before


def test_a_service_without_any_tool_inside_is_shaped(client, beside):
    beside.enclave.up("bare", BUSYBOX)
    beside.shape(blocked("a", "bare"))
    assert set(sidecars(client, beside.enclave.id.name)) == {"a", "bare"}
    script = f"ping -c1 -W1 {beside.enclave.site.reserve('a').ip_address} >/dev/null || echo lost"
    assert beside.enclave.sh("bare", script) == "lost"


def test_a_service_that_starts_again_gets_another_sidecar(client, beside):
    beside.shape(both_ways(delay(50), "a", "b"))
    before = sidecars(client, beside.enclave.id.name)
    beside.restart("b")
    after = sidecars(client, beside.enclave.id.name)
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert 100 <= beside.round_trip("a", "b") < 150
    beside.up("b")
    assert sidecars(client, beside.enclave.id.name)["b"] != after["b"]
    assert 100 <= beside.round_trip("a", "b") < 150


def test_a_sidecar_that_was_killed_is_told_of_and_made_again(client, beside):
    beside.shape(blocked("a", "b"))
    client.remove_container(sidecars(client, beside.enclave.id.name)["b"], force=True)
    assert beside.enclave.site.shaped() == {}
    assert beside.came_back("b", "a") == 0
    beside.shape(blocked("a", "b"))
    assert beside.enclave.site.shaped() == blocked("a", "b")
    assert set(sidecars(client, beside.enclave.id.name)) == {"a", "b"}
    assert beside.came_back("a", "b") == 0


def test_sidecars_go_with_the_enclave(client, beside):
    beside.shape(blocked("a", "b"))
    assert beside.enclave.site.close() == []
    assert sidecars(client, beside.enclave.id.name) == {}


def test_sidecars_are_shared_by_processes(sidecar_engine, client, home):
    id_ = EnclaveId(enclave_id().name, str(home))
    talk = Talk(Enclave(sidecar_engine.open(id_), id_))
    talk.up("a", "b")
    other = Talk(Enclave(sidecar_engine.attach(id_), id_))
    other.shape(both_ways(delay(50), "a", "b"))
    assert talk.enclave.site.shaped() == both_ways(delay(50), "a", "b")
    before = sidecars(client, id_.name)
    talk.shape({**blocked("a", "b")})
    assert sidecars(client, id_.name) == before
    assert other.enclave.site.shaped() == blocked("a", "b")
    assert other.came_back("a", "b") == 0
    other.enclave.site.leave()
    assert talk.enclave.site.close() == []


def test_what_is_needed_and_not_there_is_told(docker_host, open_enclave):
    engine = DockerEngine(docker_host, shaper=ShaperPlan("enclave-test/nothing:none", sidecars=True))
    talk = Talk(open_enclave(engine))
    talk.up("a", "b")
    with pytest.raises(EngineError) as raised:
        talk.shape(blocked("a", "b"))
    assert raised.value.message == (
        "cannot shape the enclave's traffic: this process is not root on the engine's machine, and the engine has no "
        'image "enclave-test/nothing:none" to do it from containers'
    )
    assert raised.value.remedy == (
        "`docker pull enclave-test/nothing:none`, or leave the ini option enclave_shaper_image out: then one is built"
    )
    assert talk.enclave.site.shaped() == {}
    assert talk.came_back("a", "b") == 20
    assert talk.enclave.site.close() == []
    engine.close()


def test_an_image_without_python_is_told(docker_host, open_enclave):
    engine = DockerEngine(docker_host, shaper=ShaperPlan(BUSYBOX, sidecars=True))
    talk = Talk(open_enclave(engine))
    talk.up("a", "b")
    with pytest.raises(
        EngineError, match=r'^cannot start the container that shapes the traffic of service "[ab]": .*python3'
    ):
        talk.shape(blocked("a", "b"))
    assert talk.enclave.site.shaped() == {}
    assert talk.enclave.site.close() == []
    engine.close()


def test_a_kernel_that_cannot_is_told(talk, monkeypatch):
    monkeypatch.setattr("pytest_enclave.engine.docker.local_shaper.PROGRAM", "import sys; sys.exit(1)")
    with pytest.raises(EngineError) as raised:
        talk.shape(blocked("a", "b"))
    assert "cannot start the process that shapes the enclave's traffic" in raised.value.message
    assert talk.enclave.site.shaped() == {}
    assert "NFQUEUE" in NEEDS
