"""Enclaves on a Docker engine that several processes use: what one does, the others see."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import docker
import pytest
from msgspec.structs import replace

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.inscriptions import inscribe, read_inscription, with_environment
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.protocol import Action, Address, EnclaveId, Exit, HttpRequest, NotReached, ServiceSpec
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import Gpu, PortSpec
from tests.engine.engine_enclave import BUSYBOX, FOREVER, NGINX, Enclave, enclave_id
from tests.engine.faulty_engine import Call, Fault, FaultyEngine

HTTP = PortSpec(80)
GET = HttpRequest("GET", "/")


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


@pytest.fixture(scope="module")
def other_engine(docker_host: str) -> Iterator[DockerEngine]:
    """That of another process: it shares nothing with the first one's."""
    engine = DockerEngine(docker_host)
    yield engine
    assert engine.close() == []


@pytest.fixture(params=["with a home", "without one"])
def one(docker_engine: DockerEngine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Enclave]:
    """An enclave as the process has it that made it."""
    home = tmp_path / "home"
    home.mkdir()
    id_ = replace(enclave_id(), home=str(home) if request.param == "with a home" else "")
    enclave = Enclave(docker_engine.open(id_), id_)
    yield enclave
    assert [*enclave.site.close(), *docker_engine.remove(id_)] == []


@pytest.fixture
def attach(other_engine: DockerEngine, one: Enclave) -> Iterator[Callable[[], Enclave]]:
    """Have it in another process."""
    attached: list[Enclave] = []

    def attach_one() -> Enclave:
        attached.append(Enclave(other_engine.attach(one.id), one.id))
        return attached[-1]

    yield attach_one
    for each in attached:
        each.site.leave()


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.02)
    return False


def status(enclave: Enclave, name: str) -> Status | None:
    fact = enclave.site.observe().get(name)
    return fact.status if fact else None


# Attaching


def test_who_attaches_finds_the_services_and_can_use_them(one, attach):
    one.up("web", NGINX, ports={"http": HTTP})
    one.up("said", cmd=("sh", "-c", "echo hello; sleep 1000"))
    other = attach()
    assert other.site.observe() == one.site.observe()
    assert list(other.site.observe()) == ["web", "said"]
    other.wait_open("web", HTTP)
    assert other.site.dial("web", HTTP) == one.site.dial("web", HTTP)
    assert other.site.request("web", HTTP, GET, None).code == 200
    assert other.sh("said", "hostname") == "said"
    assert [line.text for line in other.site.logs("said")] == ["hello"]
    assert other.site.exit_of("said") is None


def test_what_has_ended_is_found_as_it_ended(one, attach):
    one.up("failed", cmd=("sh", "-c", "exit 3"))
    one.up("paused")
    one.site.act("paused", Action.PAUSE)
    assert eventually(lambda: one.site.exit_of("failed") is not None)
    other = attach()
    assert other.site.exit_of("failed") == Exit(3)
    assert status(other, "failed") is Status.EXITED
    assert status(other, "paused") is Status.PAUSED


@pytest.mark.parametrize("one", ["with a home"], indirect=True)
def test_what_was_stopped_is_not_what_ended_by_itself(one, attach):
    one.up("stopped")
    one.up("seen")
    before = attach()
    for name in ("stopped", "seen"):
        one.site.act(name, Action.STOP)
    assert eventually(lambda: status(before, "seen") is Status.STOPPED)
    assert status(attach(), "stopped") is Status.STOPPED
    before.site.act("stopped", Action.START)
    before.site.act("stopped", Action.KILL)
    assert status(attach(), "stopped") is Status.EXITED


@pytest.fixture
def double(docker_host: str, tmp_path: Path) -> Iterator[FaultyEngine]:
    """What the other process takes for the engine, and what it asks of it."""
    double = FaultyEngine(tmp_path / "double", docker_host.removeprefix("unix://"))
    yield double
    double.close()


@contextmanager
def attached_by(double: FaultyEngine, one: Enclave) -> Iterator[Enclave]:
    engine = DockerEngine(double.endpoint)
    other = Enclave(engine.attach(one.id), one.id)
    yield other
    other.site.leave()
    assert engine.close() == []


def test_who_attaches_asks_for_everything_once_and_for_nothing_more(one, double):
    one.up("first")
    one.up("second")
    with attached_by(double, one) as other:
        for _ in range(3):
            assert other.site.observe() == one.site.observe()
            assert other.site.exit_of("first") is None
        assert eventually(lambda: len(double.calls) == 7)
    assert sorted((each.method, each.path) for each in double.calls) == [
        ("GET", "/_ping"),
        ("GET", "/containers/*/json"),
        ("GET", "/containers/*/json"),
        ("GET", "/containers/json"),
        ("GET", "/events"),
        ("GET", "/info"),
        ("GET", "/networks/*"),
    ]


@pytest.mark.parametrize("fault", [Fault.REFUSED_500, Fault.DROPPED, Fault.CUT, Fault.SILENT])
def test_who_cannot_follow_events_asks_without_them(fault, one, double):
    one.up("service")
    double.arm(Call("GET", "/events", 1), fault)
    with attached_by(double, one) as other:
        assert double.met
        assert other.site.observe() == one.site.observe()
        one.site.act("service", Action.KILL)
        assert eventually(lambda: other.site.exit_of("service") is not None)
        assert other.site.exit_of("service") == Exit(137)


@pytest.mark.parametrize("fault", [Fault.REFUSED_500, Fault.LOST, Fault.CUT])
def test_a_list_that_cannot_be_had_while_events_begin_is_asked_for_again(fault, one, double):
    one.up("service")
    double.arm(Call("GET", "/containers/json", 1), fault)
    with attached_by(double, one) as other:
        assert double.met
        assert list(other.site.observe()) == ["service"]


def test_a_name_keeps_its_address_and_a_new_one_gets_another(one, attach):
    first = one.up("first").address
    one.up("second")
    one.site.act("second", Action.STOP)
    other = attach()
    assert other.site.reserve("first") == first
    assert other.site.reserve("second") == one.site.reserve("second")
    third = other.site.reserve("third").ip_address
    assert IPv4Address(third) == IPv4Address(one.site.reserve("second").ip_address) + 1


@pytest.mark.parametrize("one", ["with a home"], indirect=True)
def test_addresses_are_known_to_all_before_anything_is_started(one, attach):
    promised = [one.site.reserve(name) for name in ("a", "b")]
    other = attach()
    assert other.site.reserve("c").ip_address not in {each.ip_address for each in promised}
    assert [other.site.reserve(name) for name in ("b", "a")] == promised[::-1]
    assert one.site.reserve("c") == other.site.reserve("c")


def test_an_enclave_that_is_gone_is_not_attached_to(docker_engine):
    id_ = enclave_id()
    with pytest.raises(EngineError) as caught:
        docker_engine.attach(id_)
    assert caught.value.message == f"the enclave {id_.name} is gone: the engine has no network of it"


def test_a_container_of_another_version_is_not_attached_to(one, attach, client):
    one.site.reserve("any")
    marks = {labels.ENCLAVE: one.id.name, labels.SERVICE: "old", labels.SPEC: '{"spec": {}}'}
    container = client.create_container(BUSYBOX, list(FOREVER), labels=marks)["Id"]
    with pytest.raises(EngineError, match=f"the container {container[:12]} does not say what it was started from"):
        attach()


def test_what_somebody_was_killed_in_the_middle_of_making_is_no_service(one, attach, client):
    one.up("whole")
    address = one.site.reserve("half")
    spec = one.spec("half")
    name = f"{one.id.name}-half"
    marks = {labels.ENCLAVE: one.id.name, labels.SERVICE: "half", **inscribe(spec, "sha256:1", {})}
    client.create_container(BUSYBOX, list(FOREVER), name=name, labels=marks)
    other = attach()
    assert set(other.site.observe()) == {"whole"}
    with pytest.raises(NotReached, match="there is no such service"):
        other.site.exec("half", ["true"], None)
    other.up("half")
    assert other.site.reserve("half") == address
    assert other.sh("half", "hostname") == "half"


def test_a_container_that_is_not_the_services_keeps_its_name(one, client):
    name = f"{one.id.name}-taken"
    stranger = client.create_container(BUSYBOX, list(FOREVER), name=name)["Id"]
    try:
        error = one.start(one.spec("taken"))["taken"]
        assert error is not None
        assert "is already in use by container" in error.message
        assert client.inspect_container(stranger)["Name"] == f"/{name}"
    finally:
        client.remove_container(stranger, force=True)


def test_attaching_is_quick(one, attach):
    specs = [one.spec(f"s{number}") for number in range(8)]
    assert set(one.start(*specs).values()) == {None}
    attach()
    took = []
    for _ in range(5):
        began = time.perf_counter()
        attach()
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1


@pytest.mark.parametrize("one", ["with a home"], indirect=True)
def test_who_attaches_early_waits_for_the_network(docker_engine, attach, tmp_path):
    # Nothing was asked of the enclave since it was opened.
    assert attach().site.observe() == {}


def test_an_attached_enclave_makes_nobody_wait(one, attach, docker_engine):
    one.site.reserve("any")
    attach()
    attach()
    assert docker_engine.attach(one.id).leave() is None


# Following others


def test_what_another_process_starts_is_known_at_once_and_by_events(one, attach):
    one.site.reserve("any")
    other = attach()
    one.up("web")
    assert other.sh("web", "hostname") == "web"
    one.up("later")
    assert eventually(lambda: status(other, "later") is Status.RUNNING)
    other.up("back")
    assert one.sh("back", "hostname") == "back"
    assert {name: fact.ip_address for name, fact in one.site.observe().items()} == {
        name: other.site.reserve(name).ip_address for name in ("web", "later", "back")
    }


def test_what_another_process_replaces_is_used_as_it_is_now(one, attach):
    one.up("web")
    other = attach()
    assert other.sh("web", "echo $VERSION") == ""
    one.up("web", env_vars={"VERSION": "2"})
    other.site.refresh()
    assert other.sh("web", "echo $VERSION") == "2"
    other.up("web", env_vars={"VERSION": "3"})
    one.site.refresh()
    assert one.sh("web", "echo $VERSION") == "3"
    one.site.act("web", Action.KILL)
    assert eventually(lambda: other.site.exit_of("web") == Exit(137))


def test_without_a_refresh_what_replaced_a_service_is_found_by_events(one, attach):
    one.up("web")
    other = attach()
    one.up("web", env_vars={"VERSION": "2"})
    assert eventually(lambda: status(other, "web") is Status.RUNNING)
    assert other.sh("web", "echo $VERSION") == "2"


def test_what_another_process_removes_is_gone(one, attach):
    one.up("web")
    one.up("stays")
    other = attach()
    one.site.act("web", Action.REMOVE)
    other.site.refresh()
    assert set(other.site.observe()) == {"stays"}
    assert other.site.exit_of("web") is None
    assert other.site.logs("web") == []
    with pytest.raises(NotReached, match="there is no such service"):
        other.site.exec("web", ["true"], None)
    other.up("mine")
    one.site.act("mine", Action.REMOVE)
    assert eventually(lambda: "mine" not in other.site.observe())


def test_a_service_of_another_process_can_be_acted_upon(one, attach):
    one.up("web")
    other = attach()
    for action, wanted in [
        (Action.PAUSE, Status.PAUSED),
        (Action.RESUME, Status.RUNNING),
        (Action.STOP, None),
        (Action.START, Status.RUNNING),
    ]:
        other.site.act("web", action)
        assert wanted is None or status(other, "web") is wanted
        assert eventually(lambda wanted=wanted: wanted is None or status(one, "web") is wanted)
    one.up("unseen")
    other.site.act("unseen", Action.REMOVE)
    assert eventually(lambda: "unseen" not in one.site.observe())


def test_what_this_process_removed_does_not_come_back_with_late_events(one):
    one.up("web")
    container = one.site._live.named("web").container
    one.site.act("web", Action.REMOVE)
    marks = {labels.SERVICE: "web"}
    event = {"Action": "start", "Actor": {"ID": container, "Attributes": marks}}
    assert one.site._follower.states.apply(event)
    assert one.site.observe() == {}


def test_a_freeze_of_an_attached_enclave_has_all_that_its_services_were_started_with(one, attach, tmp_path, fork):
    (tmp_path / "file.txt").write_text("content")
    one.artifacts["files"] = tmp_path
    settings = {"files": {"/given": "files"}, "directories": {"/data": "data"}}
    one.up("web", env_vars={"SECRET": "a=b"}, **settings)
    one.sh("web", "echo kept > /data/here")
    one.site.act("web", Action.STOP)
    one.up("gone", directories={"/orphan": "orphan"})
    one.sh("gone", "echo too > /orphan/here")
    one.site.act("gone", Action.REMOVE)
    one.site.act("web", Action.START)
    other = attach()
    other.site.freeze()
    copy = fork(other)
    assert copy.sh("web", "cat /given/file.txt /data/here; echo $SECRET") == "contentkept\na=b"
    copy.up("again", directories={"/orphan": "orphan"})
    assert copy.sh("again", "cat /orphan/here") == "too"


# Letting go


def test_who_leaves_takes_nothing_along(one, attach, client):
    one.up("web")
    other = attach()
    other.site.keep(time.time() + 60)
    other.site.leave()
    other.site.leave()
    assert one.sh("web", "hostname") == "web"
    with pytest.raises(EngineError, match="is being closed"):
        other.site.act("web", Action.STOP)
    one.site.leave()
    again = attach()
    assert again.sh("web", "hostname") == "web"
    # Whoever closes it removes it for all.
    assert again.site.close() == []
    assert client.networks(filters=dict(labels.of_enclave(one.id.name))) == []


def test_what_is_removed_by_name_is_gone_whoever_made_it(one, attach, client, other_engine, tmp_path):
    one.up("web", directories={"/data": "data"})
    one.site.freeze()
    one.site.leave()
    assert other_engine.remove(one.id) == []
    mine = dict(labels.of_enclave(one.id.name))
    assert client.containers(all=True, filters=mine) == []
    assert client.networks(filters=mine) == []
    assert client.volumes(filters=mine)["Volumes"] in (None, [])
    assert client.images(all=True, filters=mine) == []
    assert other_engine.remove(one.id) == []
    with pytest.raises(EngineError, match="is gone"):
        attach()


def test_images_that_a_fork_began_with_go_with_the_last_who_needs_them(one, other_engine, client, fork):
    one.up("web")
    one.site.freeze()
    copy = fork(one)
    mine = dict(labels.of_enclave(one.id.name))
    assert other_engine.remove(one.id) == []
    assert len(client.images(all=True, filters=mine)) == 1
    assert copy.sh("web", "hostname") == "web"
    assert [*copy.site.close(), *one.site.close()] == []
    assert client.images(all=True, filters=mine) == []


def test_a_forks_files_are_in_its_home(one, tmp_path):
    content = tmp_path / "content"
    content.mkdir()
    (content / "file.txt").write_text("content")
    one.artifacts["files"] = content
    one.up("web", files={"/given": "files"})
    one.site.freeze()
    home = tmp_path / "another"
    home.mkdir()
    id_ = replace(enclave_id(), home=str(home))
    copy = Enclave(one.site.fork(id_), id_)
    assert copy.sh("web", "cat /given/file.txt") == "content"
    assert [path.read_text() for path in home.glob("docker/files/*/file.txt")] == ["content"]
    assert copy.site.close() == []


def test_engines_are_the_same_where_the_same_enclaves_are_found(docker_host, docker_engine, other_engine):
    assert docker_engine.identity == other_engine.identity == f"docker {docker_host} egress=on"
    closed = DockerEngine(docker_host, egress=False)
    assert closed.identity == f"docker {docker_host} egress=off"
    assert closed.close() == []


# Inscriptions and notes


def test_a_container_tells_what_its_service_was_started_from():
    spec = ServiceSpec(
        "web",
        "image:1",
        Address("web", "10.0.0.2"),
        ports={"http": PortSpec(80, "TCP", "http", None, None), "dns": PortSpec(53, "UDP", wait=1.5)},
        public_ports={"http": PortSpec(8080)},
        files={"/given": "files"},
        directories={"/data": "key"},
        entrypoint=("sh", "-c"),
        cmd=("true",),
        env_vars={"TOKEN": "secret"},
        labels={"team": "shop"},
        max_cpu=100,
        max_memory=0,
        user="1:2",
        devices=("/dev/null",),
        capabilities=("SYS_PTRACE",),
        gpu=Gpu(1, ("a",), None, {"core": 1}, "nvidia"),
        init=True,
        terminal=True,
        moved={"/given/a": "/a"},
    )
    ended = ContainerState("sha256:1", "10.0.0.2", Status.EXITED, Exit(137, True))
    marks = inscribe(spec, "sha256:1", {"files": Path("/a/b"), "unused": Path("/c")}, ended)
    assert "secret" not in json.dumps(marks)
    told = read_inscription("id", {**marks, labels.ENCLAVE: "e", "team": "shop"})
    assert told.service.spec == replace(spec, env_vars={"TOKEN": ""})
    assert with_environment(told.service.spec, ["PATH=/bin", "TOKEN=secret"]) == spec
    assert (told.service.container, told.service.artifacts) == ("id", {"files": Path("/a/b")})
    assert (told.image, told.resting) == ("sha256:1", ended)


@pytest.mark.parametrize("marks", [{}, {labels.SPEC: "no json"}, {labels.SPEC: "{}"}, {labels.SPEC: "[]"}])
def test_a_container_that_tells_nothing_is_told_of(marks):
    with pytest.raises(EngineError) as caught:
        read_inscription("0123456789abcdef", marks)
    assert caught.value.message == "the container 0123456789ab does not say what it was started from"
    assert "--enclave-clean" in caught.value.remedy


def test_a_note_that_somebody_was_killed_in_the_middle_of_is_written_over(tmp_path):
    notes = Notes(str(tmp_path))
    with notes.addresses() as given:
        given["a"] = "10.0.0.2"
    with (tmp_path / "docker" / "addresses").open("a") as file:
        file.write("b 10.0")
    with notes.addresses() as given:
        assert given == {"a": "10.0.0.2"}
        given["c"] = "10.0.0.3"
    with Notes(str(tmp_path)).addresses() as given:
        assert given == {"a": "10.0.0.2", "c": "10.0.0.3"}


def test_notes_without_a_home_are_told_of(tmp_path):
    with pytest.raises(EngineError, match="addresses cannot be written down"), Notes(f"{tmp_path}/gone").addresses():
        pass


def test_all_that_has_a_home_says_so(one, client):
    one.up("web")
    container = client.inspect_container(f"{one.id.name}-web")["Config"]["Labels"]
    network = client.inspect_network(one.id.name)["Labels"]
    assert container[labels.HOME] == network[labels.HOME] == one.id.home


def test_an_enclave_in_pods_cannot_stay(docker_pooled_engine):
    id_ = EnclaveId(enclave_id().name)
    site = docker_pooled_engine.open(id_)
    with pytest.raises(EngineError) as caught:
        site.keep(time.time() + 60)
    assert caught.value.message == (
        "its services are in network namespaces that go with the session: run the test alone, and it stays"
    )
    assert site.close() == []
