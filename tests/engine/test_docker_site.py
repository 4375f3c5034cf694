"""What only the Docker engine has: labels and names, ways round an engine that is not on this machine, events."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.protocol import Action, Exit, HttpRequest, NotReached
from pytest_enclave.errors import EngineError, ServiceError
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import BUSYBOX, NGINX, PYTHON, Enclave, enclave_id

HTTP = PortSpec(80)
GET = HttpRequest("GET", "/")


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    """The engine, seen from outside."""
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


@pytest.fixture
def enclave(docker_engine: DockerEngine, open_enclave: Callable[..., Enclave]) -> Enclave:
    return open_enclave(docker_engine)


def everything_of(client: docker.APIClient, enclave: Enclave) -> list[str]:
    """All that the engine has of an enclave."""
    mine = dict(labels.of_enclave(enclave.id.name))
    return [
        *(found["Id"] for found in client.containers(all=True, filters=mine)),
        *(found["Id"] for found in client.networks(filters=mine)),
        *(found["Name"] for found in client.volumes(filters=mine)["Volumes"] or []),
    ]


# Labels, names, ports


def test_all_resources_say_whose_they_are(client, enclave):
    before = time.time()
    enclave.up("web", labels={"team": "shop"})
    container = client.inspect_container(f"{enclave.id.name}-web")["Config"]["Labels"]
    network = client.inspect_network(enclave.id.name)["Labels"]
    for found in (container, network):
        assert found[labels.ENCLAVE] == enclave.id.name
        assert found[labels.OWNER_PID] == str(os.getpid())
        assert Owner.of(found) == Owner.this_process()
        assert before - 5 < float(found[labels.CREATED]) < time.time()
    assert container[labels.SERVICE] == "web"
    assert container["team"] == "shop"


def test_nothing_is_published_where_addresses_are_reachable(client, enclave):
    enclave.up("web", NGINX, ports={"http": HTTP})
    assert not any(client.inspect_container(f"{enclave.id.name}-web")["NetworkSettings"]["Ports"].values())
    assert enclave.site.dial("web", HTTP).host == enclave.site.reserve("web").ip_address


def test_closing_leaves_nothing(client, enclave):
    enclave.up("web")
    assert len(everything_of(client, enclave)) == 2
    assert enclave.site.close() == []
    assert everything_of(client, enclave) == []


def test_a_service_that_does_not_start_leaves_nothing(client, enclave):
    error = enclave.start(enclave.spec("bad", cmd=("no-such-program",)))["bad"]
    assert isinstance(error, ServiceError)
    assert len(everything_of(client, enclave)) == 1


def test_a_public_port_that_is_taken_is_told(client, enclave):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        public = PortSpec(taken.getsockname()[1])
        spec = enclave.spec("public", ports={"http": HTTP}, public_ports={"http": public})
        error = enclave.start(spec)["public"]
    assert isinstance(error, ServiceError)
    assert f"a port to publish ({public.number}) is taken" in error.message
    assert "public_ports" in error.remedy
    assert len(everything_of(client, enclave)) == 1


def test_closing_at_any_moment_of_a_start_leaves_nothing(client, docker_engine, open_enclave):
    for delay in (0.0, 0.05, 0.15, 0.25):
        enclave = open_enclave(docker_engine)
        specs = [enclave.spec(f"s{number}") for number in range(3)]
        thread = threading.Thread(target=enclave.start, args=specs)
        thread.start()
        time.sleep(delay)
        assert enclave.site.close() == []
        assert everything_of(client, enclave) == []
        thread.join()
        assert everything_of(client, enclave) == []


def test_an_enclave_is_closed_although_others_are_on_its_network(client, enclave):
    enclave.site.reserve("any")
    config = {"Image": BUSYBOX, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": enclave.id.name}}
    stranger = client.create_container_from_config(config)["Id"]
    try:
        client.start(stranger)
        assert enclave.site.close() == []
    finally:
        client.remove_container(stranger, force=True)


# Engines that are not on this machine


@pytest.fixture(scope="module")
def distant(docker_host: str) -> Iterator[Enclave]:
    """An enclave on an engine that sees no file of ours, and whose containers cannot be reached directly."""
    engine = DockerEngine(docker_host, publish=True, bind_mounts=False)
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    yield enclave
    assert enclave.site.close() == []
    engine.close()


def test_ports_are_published_where_addresses_are_not_reachable(distant: Enclave):
    distant.up("web", NGINX, ports={"http": HTTP})
    distant.wait_open("web", HTTP)
    endpoint = distant.site.dial("web", HTTP)
    assert endpoint.host == "127.0.0.1"
    assert endpoint.port != 80
    assert distant.site.request("web", HTTP, GET, None).code == 200


def test_published_ports_are_found_again_after_a_restart(distant: Enclave):
    distant.up("again", NGINX, ports={"http": HTTP})
    distant.site.dial("again", HTTP)
    distant.site.act("again", Action.STOP)
    distant.site.act("again", Action.START)
    distant.wait_open("again", HTTP)
    assert distant.site.request("again", HTTP, GET, None).code == 200


def test_a_proxy_that_accepts_is_no_open_port(distant: Enclave):
    distant.up("deaf", ports={"http": HTTP})
    endpoint = distant.site.dial("deaf", HTTP)
    socket.create_connection((endpoint.host, endpoint.port)).close()
    assert not distant.site.accepts("deaf", HTTP)


def test_what_listens_on_loopback_only_is_no_open_port(distant: Enclave):
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', 80)); print('ready'); time.sleep(99)"
    distant.up("inward", PYTHON, cmd=("python3", "-c", listen), ports={"http": HTTP})
    while not distant.site.logs("inward"):
        distant.site.pause(0.02)
    assert not distant.site.accepts("inward", HTTP)


def test_an_undeclared_port_is_not_published(distant: Enclave):
    distant.up("bare")
    with pytest.raises(NotReached, match="80/tcp is not declared"):
        distant.site.dial("bare", HTTP)


def test_artifacts_are_brought_in_volumes(distant: Enclave, tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.txt").write_text("content")
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho ran")
    (tmp_path / "run.sh").chmod(0o755)
    distant.artifacts["files"] = tmp_path
    distant.up("mounted", files={"/given": "files", "/var": "files"})
    assert distant.sh("mounted", "cat /var/deep/file.txt; /given/run.sh") == "contentran"
    # What the image has at a mount path does not get among the artifact's files.
    assert distant.sh("mounted", "ls /var") == "deep\nrun.sh"
    refused = distant.site.exec("mounted", ["touch", "/given/new"], None)
    assert "Read-only file system" in refused.output


def test_an_engine_that_does_not_see_our_files_gets_them_in_volumes(enclave, tmp_path, monkeypatch):
    (tmp_path / "file.txt").write_text("content")
    enclave.artifacts["files"] = tmp_path
    original = docker.APIClient.create_container_from_config

    def blind(self, config, name=None, platform=None):
        mounts = config["HostConfig"]["Mounts"]
        for mount in mounts:
            if mount["Type"] == "bind":
                mount["Source"] = "/on/another/machine"
        return original(self, config, name, platform)

    monkeypatch.setattr(docker.APIClient, "create_container_from_config", blind)
    outcome = enclave.start(*(enclave.spec(f"mounted-{number}", files={"/given": "files"}) for number in range(3)))
    assert set(outcome.values()) == {None}
    assert enclave.sh("mounted-0", "cat /given/file.txt") == "content"


def test_without_egress_the_network_is_internal_and_services_are_reached(client, docker_host, open_enclave):
    engine = DockerEngine(docker_host, egress=False)
    enclave = open_enclave(engine)
    enclave.up("web", NGINX, ports={"http": HTTP})
    enclave.wait_open("web", HTTP)
    assert enclave.site.request("web", HTTP, GET, None).code == 200
    assert client.inspect_network(enclave.id.name)["Internal"]
    assert enclave.site.close() == []
    engine.close()


# Behind our back


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_what_is_stopped_behind_our_back_is_seen(client, enclave):
    enclave.up("web")
    client.kill(f"{enclave.id.name}-web")
    assert eventually(lambda: enclave.site.observe()["web"].status is Status.EXITED)
    client.start(f"{enclave.id.name}-web")
    assert eventually(lambda: enclave.site.observe()["web"].status is Status.RUNNING)


def test_what_is_removed_behind_our_back_is_seen(client, enclave):
    enclave.up("web")
    client.remove_container(f"{enclave.id.name}-web", force=True)
    assert eventually(lambda: "web" not in enclave.site.observe())
    assert enclave.site.exit_of("web") == Exit(137)
    with pytest.raises(NotReached, match="removed by somebody else"):
        enclave.site.exec("web", ["true"], None)
    with pytest.raises(ServiceError, match="removed by somebody else"):
        enclave.site.act("web", Action.START)
    enclave.up("web")


class Wire:
    """A unix socket in front of the engine's, that can be cut."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self._target = target
        self._open: set[socket.socket] = set()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections; new ones work."""
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()


@pytest.fixture
def wire(docker_host: str, tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path / "wire.sock", docker_host.removeprefix("unix://"))
    yield wire
    wire.close()


def test_states_are_right_again_after_the_events_were_lost(client, wire, open_enclave):
    engine = DockerEngine(f"unix://{wire.path}")
    enclave = open_enclave(engine)
    enclave.up("stays")
    enclave.up("ends")
    wire.cut()
    client.kill(f"{enclave.id.name}-ends")
    assert eventually(lambda: enclave.site.observe()["ends"].status is Status.EXITED)
    assert enclave.site.exit_of("ends") == Exit(137)
    assert enclave.site.observe()["stays"].status is Status.RUNNING
    time.sleep(0.5)
    client.kill(f"{enclave.id.name}-stays")
    assert enclave.site.pause(5, watching="stays") == Exit(137)
    assert enclave.site.close() == []
    engine.close()


# The SDK leaves sockets that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_is_lost_is_told_without_its_sdks_traceback(wire, docker_engine, open_enclave):
    engine = DockerEngine(f"unix://{wire.path}")
    engine.capacity()
    id_ = enclave_id()
    site = engine.open(id_)
    site.reserve("any")
    wire.close()
    with pytest.raises(EngineError, match="connection to the Docker engine is lost") as it:
        engine.local_images([BUSYBOX])
    assert "\n" not in str(it.value)
    (leak,) = site.close()
    assert leak.command.startswith(f"docker -H unix://{wire.path} ps -aq --filter label=")
    assert id_.name in leak.command
    engine.close()
    # The engine itself is well: what was left there goes.
    assert docker_engine.open(id_).close() == []
    # Those sockets are collected while they are expected.
    del it
    gc.collect()
