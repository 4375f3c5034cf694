"""What freezing and forking leave on a Docker engine, and what they carry: images, volumes, addresses, ports."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import docker
import docker.errors
import pytest
import requests

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.signals import heeds_stop
from pytest_enclave.engine.protocol import Action, Exit
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import BUSYBOX, NGINX, Enclave, enclave_id

HTTP = PortSpec(80)


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    """The engine, seen from outside."""
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


@pytest.fixture
def enclave(docker_engine: DockerEngine, open_enclave: Callable[..., Enclave]) -> Enclave:
    return open_enclave(docker_engine)


@pytest.fixture(scope="module")
def with_volumes(client: docker.APIClient) -> Iterator[str]:
    """An image that declares volumes, and has files of its own there."""
    container = client.create_container_from_config({"Image": BUSYBOX, "Cmd": ["sh", "-c", SEED]})["Id"]
    client.start(container)
    client.wait(container)
    volumes = {"/data": {}, "/var/lib/deep/data": {}}
    image = client.commit(container, "engine-test-volumes", str(os.getpid()), conf={"Volumes": volumes})["Id"]
    client.remove_container(container)
    yield f"engine-test-volumes:{os.getpid()}"
    client.remove_image(image)


SEED = "mkdir -p /data /var/lib/deep/data; echo of-the-image > /data/seed"


def images_of(client: docker.APIClient, enclave: Enclave) -> dict[str, str]:
    """The images that are labelled as the enclave's, by service."""
    found = client.images(all=True, filters=dict(labels.of_enclave(enclave.id.name)))
    return {image["Labels"][labels.SERVICE]: image["Id"] for image in found}


def everything_of(client: docker.APIClient, enclave: Enclave) -> list[str]:
    """All that the engine has of an enclave."""
    mine = dict(labels.of_enclave(enclave.id.name))
    return [
        *(found["Id"] for found in client.containers(all=True, filters=mine)),
        *(found["Id"] for found in client.networks(filters=mine)),
        *(found["Name"] for found in client.volumes(filters=mine)["Volumes"] or []),
        *images_of(client, enclave).values(),
    ]


def container_of(client: docker.APIClient, enclave: Enclave, service: str):
    return client.inspect_container(f"{enclave.id.name}-{service}")


def refusal(said: str) -> docker.errors.APIError:
    """What the SDK raises when the engine says no."""
    response = requests.Response()
    response.status_code = 500
    return docker.errors.APIError("no", response, explanation=said)


# Images


def test_images_say_whose_they_are_and_have_a_name(client, enclave):
    enclave.up("web", labels={"team": "shop"})
    enclave.site.freeze()
    image = client.inspect_image(images_of(client, enclave)["web"])
    assert image["Config"]["Labels"][labels.OWNER_PID] == str(os.getpid())
    assert image["Config"]["Labels"]["team"] == "shop"
    # So it is not among those that `docker image prune` removes.
    assert image["RepoTags"][0].startswith("pytest-enclave/frozen:")


def test_forks_share_the_images_of_a_freeze(client, enclave, fork):
    enclave.up("web")
    enclave.site.freeze()
    frozen = images_of(client, enclave)
    forks = [fork(enclave), fork(enclave)]
    assert {container_of(client, one, "web")["Image"] for one in forks} == set(frozen.values())
    assert images_of(client, enclave) == frozen
    assert not any(images_of(client, one) for one in forks)


@pytest.mark.parametrize("order", ["0123", "3210", "1320", "2013"])
def test_images_go_with_the_last_who_needs_them(client, enclave, fork, order):
    enclave.up("web")
    enclave.site.freeze()
    first = fork(enclave)
    first.sh("web", "echo first > /who")
    first.site.freeze()
    family = [enclave, first, fork(first), fork(enclave)]
    for number in map(int, order):
        family[number].sh("web", "hostname")
        assert family[number].site.close() == []
    assert [left for member in family for left in everything_of(client, member)] == []


def test_freezing_again_moves_the_point_and_removes_what_nobody_needs(client, enclave, fork):
    enclave.up("web")
    enclave.site.freeze()
    before = images_of(client, enclave)
    enclave.sh("web", "echo later > /when")
    enclave.site.freeze()
    assert images_of(client, enclave)["web"] != before["web"]
    assert len(client.images(all=True, filters=dict(labels.of_enclave(enclave.id.name)))) == 1
    assert fork(enclave).sh("web", "cat /when") == "later"


def test_a_fork_tells_the_image_that_its_origin_was_made_from(enclave, fork):
    enclave.up("web")
    enclave.site.freeze()
    again = fork(enclave)
    again.site.freeze()
    of = [one.site.observe()["web"].image for one in (enclave, again, fork(again))]
    assert of == of[:1] * 3
    again.up("web")
    assert again.site.observe()["web"].image == of[0]


def test_an_image_that_is_in_use_is_told_as_a_leak_and_goes_later(client, docker_host, enclave):
    enclave.up("web")
    enclave.site.freeze()
    (image,) = images_of(client, enclave).values()
    name = client.inspect_image(image)["RepoTags"][0]
    stranger = client.create_container_from_config({"Image": name, "Labels": {labels.ENCLAVE: "another"}})["Id"]
    try:
        (leak,) = enclave.site.close()
    finally:
        client.remove_container(stranger, force=True)
    assert (leak.kind, leak.name) == ("image", name)
    assert "is using its referenced image" in leak.reason
    assert leak.command == f"docker -H {docker_host} rmi {name}"
    assert enclave.site.close() == []
    assert everything_of(client, enclave) == []


def test_an_engine_that_lists_no_images_is_told_as_a_leak(enclave, monkeypatch):
    enclave.up("web")
    enclave.site.freeze()
    with monkeypatch.context() as broken:
        broken.setattr(docker.APIClient, "images", raising(refusal("out of order")))
        (leak,) = enclave.site.close()
    assert "out of order" in leak.reason
    assert f"--filter label={labels.FROZEN}={enclave.id.name}-" in leak.command
    assert leak.command.endswith(" rmi")
    assert enclave.site.close() == []


# Volumes


def test_volumes_are_carried_as_they_are(client, enclave, fork, with_volumes):
    enclave.up("db", with_volumes, cmd=("sleep", "1000000"))
    enclave.sh(
        "db", "rm /data/seed; echo 1 > /data/row; ln /data/row /data/same; chown -R 70:71 /data; chmod 700 /data"
    )
    enclave.sh("db", "mkdir /var/lib/deep/data/base; head -c 3000000 /dev/urandom > /var/lib/deep/data/base/heap")
    enclave.site.freeze()
    enclave.sh("db", "echo 2 > /data/row")
    one, two = fork(enclave), fork(enclave)
    assert enclave.site.close() == []
    one.sh("db", "echo 3 > /data/row")
    assert two.sh("db", "cat /data/row /data/same; ls /data") == "1\n1\nrow\nsame"
    assert two.sh("db", "stat -c '%u %g %a' /data; stat -c %h /data/row") == "70 71 700\n2"
    sums = {of.sh("db", "md5sum < /var/lib/deep/data/base/heap") for of in (one, two)}
    assert len(sums) == 1
    mounts = container_of(client, two, "db")["Mounts"]
    two.site.freeze()
    assert fork(two).sh("db", "cat /data/row") == "1"
    assert two.site.close() == []
    volumes = {volume["Name"] for volume in client.volumes()["Volumes"] or []}
    assert not volumes & {mount["Name"] for mount in mounts}


def test_an_artifact_inside_a_volume_stays_one(enclave, fork, with_volumes, tmp_path):
    (tmp_path / "file.txt").write_text("content")
    enclave.artifacts["files"] = tmp_path
    enclave.up(
        "db", with_volumes, cmd=("sleep", "1000000"), files={"/data/given": "files", "/var/lib/deep/data": "files"}
    )
    enclave.sh("db", "echo 1 > /data/row")
    enclave.site.freeze()
    again = fork(enclave)
    assert again.sh("db", "cat /data/row /data/seed /data/given/file.txt") == "1\nof-the-image\ncontent"
    assert again.site.exec("db", ["touch", "/data/given/new"], None).code == 1


def test_without_room_for_volumes_nothing_is_frozen(client, enclave, with_volumes, monkeypatch):
    enclave.up("db", with_volumes, cmd=("sleep", "1000000"))
    full = "pytest_enclave.engine.docker.volumes.tempfile.TemporaryFile"
    with monkeypatch.context() as broken:
        broken.setattr(full, lambda: open("/dev/full", "wb"))  # noqa: SIM115
        with pytest.raises(EngineError, match=r"volume at /.*No space left") as error:
            enclave.site.freeze()
    assert "TMPDIR" in error.value.remedy
    assert images_of(client, enclave) == {}
    assert enclave.sh("db", "cat /data/seed") == "of-the-image"


# Addresses, ports


def test_addresses_are_the_forks_own_wherever_they_were_given(enclave, fork, tmp_path):
    own, db = (enclave.site.reserve(name).ip_address for name in ("web", "db"))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "app.ini").write_text(f"db={db}:5432\nother={db}1\n")
    (tmp_path / "conf" / "app.ini").chmod(0o750)
    (tmp_path / "blob").write_bytes(b"\0" + db.encode())
    enclave.artifacts["files"] = tmp_path
    given = {
        "entrypoint": ("sh", "-c", f"echo {db} $0 $@; exec sleep 1000000", f"at={own}"),
        "cmd": (f"http://{db}/", f"{db}0"),
        "env_vars": {"DB": f"{db}:1,{own}", "SAME": f"1{db} {db}.9"},
        "files": {"/given": "files"},
    }
    enclave.up("web", **given)
    enclave.up("db")
    enclave.site.freeze()
    one = fork(enclave)
    two = fork(one) if one.site.freeze() is None else None
    assert two is not None
    for of in (one, two):
        there = {name: fact.ip_address for name, fact in of.site.observe().items()}
        assert there == {name: of.site.reserve(name).ip_address for name in ("web", "db")}
        assert not {own, db} & set(there.values())
        new_own, new_db = there["web"], there["db"]
        assert of.sh("web", "echo $DB $SAME") == f"{new_db}:1,{new_own} 1{db} {db}.9"
        assert of.site.logs("web")[0].text == f"{new_db} at={new_own} http://{new_db}/ {db}0"
        assert of.sh("web", "cat /given/conf/app.ini") == f"db={new_db}:5432\nother={db}1"
        assert of.sh("web", "stat -c %a /given/conf/app.ini") == "750"
        assert db in of.sh("web", "cat /given/blob")
        assert new_db in of.sh("web", "nslookup db")
        of.sh("web", "ping -c 1 -W 2 db")
    assert db in (tmp_path / "conf" / "app.ini").read_text()


def test_copies_of_artifacts_go_with_their_fork(enclave, fork, tmp_path, monkeypatch):
    scratch, given = tmp_path / "scratch", tmp_path / "given"
    for directory in (scratch, given):
        directory.mkdir()
    (given / "file").write_text("content")
    enclave.artifacts["files"] = given
    enclave.up("web", files={"/given": "files"})
    enclave.site.freeze()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    again = fork(enclave)
    assert enclave.site.close() == []
    (given / "file").unlink()
    assert again.sh("web", "cat /given/file") == "content"
    assert len(list(scratch.iterdir())) == 1
    again.site.close()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("declared", [True, False])
def test_a_public_port_is_published_where_there_is_room(enclave, fork, unused_port, declared):
    # Where it is not declared as a private port, its number is what the service listens on.
    public, ports = (PortSpec(unused_port), {"http": HTTP}) if declared else (HTTP, {})
    if not declared and os.system("ss -ltn 2>/dev/null | grep -q ':80 '") == 0:
        pytest.skip("port 80 of this machine is taken")
    enclave.up("web", NGINX, ports=ports, public_ports={"http": public})
    enclave.site.freeze()
    one, two = fork(enclave), fork(enclave)
    dialled = set()
    for of in (enclave, one, two):
        of.wait_open("web", HTTP)
        endpoint = of.site.dial("web", HTTP)
        assert endpoint.host == "127.0.0.1"
        socket.create_connection((endpoint.host, endpoint.port)).close()
        dialled.add(endpoint.port)
    assert public.number in dialled
    assert len(dialled) == 3


def test_forks_work_on_engines_elsewhere(docker_host, open_enclave, tmp_path):
    (tmp_path / "file").write_text("content")
    engine = DockerEngine(docker_host, publish=True, bind_mounts=False)
    enclave = open_enclave(engine)
    enclave.artifacts["files"] = tmp_path
    enclave.up("web", NGINX, ports={"http": HTTP}, files={"/given": "files"})
    enclave.site.freeze()
    id_ = enclave_id()
    again = Enclave(enclave.site.fork(id_), id_)
    for of in (enclave, again):
        of.wait_open("web", HTTP)
        assert of.sh("web", "cat /given/file") == "content"
    assert enclave.site.dial("web", HTTP) != again.site.dial("web", HTTP)
    assert again.site.close() == enclave.site.close() == []
    engine.close()


# What services did, and do


def test_each_is_what_it_was(client, enclave, fork):
    enclave.up("runs")
    enclave.up("paused")
    enclave.up("stopped")
    enclave.up("ended", cmd=("sh", "-c", "echo done > /result; exit 3"))
    enclave.site.pause(5, "ended")
    enclave.site.act("paused", Action.PAUSE)
    enclave.site.act("stopped", Action.STOP)
    enclave.site.freeze()
    again = fork(enclave)
    for of in (enclave, again):
        assert {name: fact.status for name, fact in of.site.observe().items()} == {
            "runs": Status.RUNNING,
            "paused": Status.PAUSED,
            "stopped": Status.STOPPED,
            "ended": Status.EXITED,
        }
        assert of.site.exit_of("ended") == Exit(3)
    assert container_of(client, again, "stopped")["State"]["Status"] == "created"
    again.site.act("stopped", Action.START)
    assert again.sh("stopped", "hostname") == "stopped"
    assert b"done" in b"".join(again.site.read("ended", "/result"))


def test_a_service_that_was_removed_is_in_no_fork(client, enclave, fork):
    enclave.up("stays")
    for name in ("removed", "taken"):
        enclave.up(name)
    enclave.site.act("removed", Action.REMOVE)
    client.remove_container(f"{enclave.id.name}-taken", force=True)
    while "taken" in enclave.site.observe():
        enclave.site.pause(0.02)
    enclave.site.freeze()
    assert list(fork(enclave).site.observe()) == ["stays"]


def test_a_service_has_time_to_write_down_what_it_has(enclave, fork):
    slow = "trap 'sleep 2; echo all > /written; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    enclave.up("slow", cmd=("sh", "-c", slow))
    while not enclave.site.logs("slow"):
        enclave.site.pause(0.02)
    enclave.site.freeze()
    assert fork(enclave).sh("slow", "cat /written") == "all"


def test_a_service_that_never_hears_its_stop_signal_is_not_waited_for(enclave):
    for number in range(2):
        enclave.up(f"deaf-{number}")
    before = time.monotonic()
    enclave.site.freeze()
    assert time.monotonic() - before < 8


def test_whether_a_process_hears_a_signal_is_read_from_the_kernel(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("0::/docker/abc\n")
    (tmp_path / "7" / "status").write_text(
        "SigIgn:\t0000000000000002\nSigBlk:\t0000000000000400\nSigCgt:\t0000000000004000\n"
    )

    def heeds(stop: str | None, container: str = "abc", pid: int = 7) -> bool:
        return heeds_stop(container, {"Config": {"StopSignal": stop}, "State": {"Pid": pid}}, tmp_path)

    assert heeds(None)
    assert heeds("TERM")
    assert heeds(str(signal.SIGUSR1.value)) is False
    assert heeds("SIGUSR2") is False
    assert heeds("11")
    assert heeds("SIGINT") is False
    assert heeds("RTMIN+3")
    assert heeds("SIGINT", container="xyz")
    assert heeds("SIGINT", pid=8)


# Failures


def raising(error: Exception) -> Callable[..., object]:
    def method(*_: object, **__: object) -> object:
        raise error

    return method


def failing(method: Callable[..., object], error: Exception, on: Callable[[str], bool]) -> Callable[..., object]:
    """The method of the client, which fails for some containers."""

    def call(self: object, container: str, *arguments: object, **options: object) -> object:
        if on(container):
            raise error
        return method(self, container, *arguments, **options)

    return call


def test_nothing_begins_without_a_freeze(enclave):
    with pytest.raises(EngineError, match="never frozen"):
        enclave.site.fork(enclave_id())


@pytest.mark.parametrize("broken", ["commit", "stop", "inspect_container"])
def test_a_freeze_that_fails_leaves_no_image_and_lets_go_on(client, enclave, fork, monkeypatch, broken):
    for name in ("one", "two"):
        enclave.up(name)
    two = container_of(client, enclave, "two")["Id"]
    enclave.site.freeze()
    before = images_of(client, enclave)
    enclave.sh("one", "echo later > /when")
    with monkeypatch.context() as patched:
        method = getattr(docker.APIClient, broken)
        patched.setattr(docker.APIClient, broken, failing(method, refusal("disk is full"), lambda id_: id_ == two))
        with pytest.raises(Exception, match=r'service "two".*: disk is full'):
            enclave.site.freeze()
    assert images_of(client, enclave) == before
    assert {fact.status for fact in enclave.site.observe().values()} == {Status.RUNNING}
    assert fork(enclave).site.exec("one", ["cat", "/when"], None).code == 1


def test_a_service_that_does_not_start_again_ends_the_freeze(client, enclave, monkeypatch):
    enclave.up("web")
    with monkeypatch.context() as patched:
        patched.setattr(docker.APIClient, "start", raising(refusal("no more processes")))
        with pytest.raises(Exception, match='service "web": start failed: no more processes'):
            enclave.site.freeze()
    assert images_of(client, enclave) == {}
    with pytest.raises(EngineError, match="never frozen"):
        enclave.site.fork(enclave_id())


@pytest.mark.parametrize("broken", ["create_container_from_config", "put_archive", "start", "create_network"])
def test_a_fork_that_fails_leaves_nothing(client, enclave, fork, with_volumes, monkeypatch, broken):
    enclave.up("web")
    enclave.up("db", with_volumes, cmd=("sleep", "1000000"))
    enclave.site.freeze()
    id_ = enclave_id()
    with monkeypatch.context() as patched:
        patched.setattr(docker.APIClient, broken, raising(refusal("out of order")))
        with pytest.raises(EngineError, match=f"the fork {id_.name} did not come up: .*out of order"):
            enclave.site.fork(id_)
    assert everything_of(client, Enclave(enclave.site, id_)) == []
    fork(enclave)


def test_what_a_failed_fork_leaves_is_told(client, docker_host, enclave, monkeypatch):
    enclave.up("web")
    enclave.site.freeze()
    id_ = enclave_id()
    with monkeypatch.context() as patched:
        patched.setattr(docker.APIClient, "start", raising(refusal("out of order")))
        patched.setattr(docker.APIClient, "remove_network", raising(refusal("busy")))
        with pytest.raises(EngineError) as error:
            enclave.site.fork(id_)
    assert f"the network {id_.name} is left: `docker -H {docker_host} network rm {id_.name}`" in error.value.message
    client.remove_network(id_.name)


def test_an_image_that_a_user_removed_is_told(client, enclave):
    enclave.up("web")
    enclave.site.freeze()
    client.remove_image(images_of(client, enclave)["web"])
    with pytest.raises(EngineError, match=r"image .*pytest-enclave/frozen.* is not on the engine"):
        enclave.site.fork(enclave_id())


def test_closing_at_any_moment_of_a_freeze_leaves_nothing(client, docker_engine, open_enclave):
    for delay in (0.0, 0.1, 0.3, 0.5, 0.7):
        enclave = open_enclave(docker_engine)
        for number in range(3):
            enclave.up(f"s{number}")
        errors: list[BaseException] = []

        def freeze(of: Enclave = enclave, into: list[BaseException] = errors) -> None:
            try:
                of.site.freeze()
            except EngineError as told:
                into.append(told)

        thread = threading.Thread(target=freeze)
        thread.start()
        time.sleep(delay)
        assert enclave.site.close() == []
        thread.join()
        assert everything_of(client, enclave) == []
        assert ["is being closed" in str(error) for error in errors] in ([], [True])


def test_closing_the_origin_at_any_moment_of_a_fork_leaves_nothing(client, docker_engine, open_enclave):
    for delay in (0.0, 0.1, 0.3):
        enclave = open_enclave(docker_engine)
        enclave.up("web")
        enclave.site.freeze()
        id_, forks = enclave_id(), []
        thread = threading.Thread(target=lambda into=forks, of=enclave, id_=id_: into.append(of.site.fork(id_)))
        thread.start()
        time.sleep(delay + 0.01)
        assert enclave.site.close() == []
        thread.join()
        again = Enclave(forks[0], id_)
        assert again.sh("web", "hostname") == "web"
        assert again.site.close() == []
        assert [*everything_of(client, enclave), *everything_of(client, again)] == []


def test_a_closed_enclave_is_neither_frozen_nor_forked(enclave):
    enclave.up("web")
    enclave.site.freeze()
    assert enclave.site.close() == []
    with pytest.raises(EngineError):
        enclave.site.fork(enclave_id())
    with pytest.raises(EngineError):
        enclave.site.freeze()


def test_persistent_directories_are_volumes_that_say_whose_they_are_and_go(client, enclave, fork):
    enclave.up("s", directories={"/data/": "rows"})
    enclave.sh("s", "echo 1 > /data/row")
    enclave.site.freeze()
    copy = fork(enclave)
    for of in (enclave, copy):
        volume = client.inspect_volume(f"{of.id.name}-persistent-rows")
        assert volume["Labels"][labels.ENCLAVE] == of.id.name
        assert volume["Labels"][labels.OWNER_PID] == str(os.getpid())
    assert copy.site.close() == []
    assert everything_of(client, copy) == []
    enclave.site.act("s", Action.REMOVE)
    assert enclave.site.close() == []
    assert everything_of(client, enclave) == []


def test_a_persistent_directory_that_somebody_else_uses_is_told_when_the_enclave_is_closed(client, enclave):
    enclave.up("s", directories={"/data": "rows"})
    volume = f"{enclave.id.name}-persistent-rows"
    config = {"Image": BUSYBOX, "HostConfig": {"Mounts": [{"Type": "volume", "Source": volume, "Target": "/data"}]}}
    stranger = client.create_container_from_config(config)["Id"]
    try:
        (leak,) = enclave.site.close()
        assert (leak.kind, leak.name) == ("volume", volume)
        assert leak.command.endswith(f"volume rm -f {volume}")
    finally:
        client.remove_container(stranger, force=True)
