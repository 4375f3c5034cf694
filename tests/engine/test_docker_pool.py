"""Plots: enclaves one after another on the same network, in the same pods."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.docker import labels, plots
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.pause import MACHINES, REFERENCE, program
from pytest_enclave.engine.docker.podfiles import PodFiles
from pytest_enclave.engine.docker.shaper import DELAYS
from pytest_enclave.engine.docker.site import DockerSite
from pytest_enclave.engine.protocol import Action, EnclaveId, Exit, HttpRequest
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import BUSYBOX, NGINX, PYTHON, REDIS, Enclave, enclave_id

NAMES = ("api", "db")

LINK = """
import sys
from pytest_enclave.linux.netlink import Netlink
from pytest_enclave.linux.syscalls import CLONE_NEWNET, setns
namespace, name = sys.argv[1:]
with open(namespace) as their:
    setns(their.fileno(), CLONE_NEWNET)
with Netlink() as network:
    network.bridge(name)
"""
"""Makes a link in a network namespace."""


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    """The engine, seen from outside."""
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


class Tidy(DockerEngine):
    """An engine that remembers its enclaves, for tests that fail before they close them."""

    sites: list[DockerSite]

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> DockerSite:
        """A new enclave, remembered."""
        self.sites.append(super().open(enclave, services))
        return self.sites[-1]


@pytest.fixture
def engine(docker_host: str, client: docker.APIClient) -> Iterator[DockerEngine]:
    """An engine with a pool of its own, which leaves nothing."""
    engine = Tidy(docker_host)
    engine.sites = []
    engine.capacity()
    yield engine
    assert [leak for site in engine.sites for leak in site.close()] == []
    assert engine.close() == []
    assert mine(client) == []


def mine(client: docker.APIClient, process: int | None = None) -> list[str]:
    """What this process, or another one, has of plots on the engine."""
    label = {"label": [f"{labels.OWNER_PID}={process or os.getpid()}"]}
    found = [container["Names"][0].lstrip("/") for container in client.containers(all=True, filters=label)]
    found += [network["Name"] for network in client.networks(filters=label)]
    return [name for name in found if name.startswith("plot-")]


def settle(engine: DockerEngine) -> None:
    """Wait until nothing is being got ready."""
    assert engine.settled(60)


def prepared(engine: DockerEngine, names: tuple[str, ...] = NAMES) -> None:
    engine.prepare(names)
    settle(engine)


def opened(engine: DockerEngine, names: tuple[str, ...] = NAMES) -> Enclave:
    id_ = enclave_id()
    return Enclave(engine.open(id_, names), id_)


def pod_of(client: docker.APIClient, enclave: Enclave, name: str) -> str | None:
    """The container whose network namespace a service uses."""
    mode: str = client.inspect_container(f"{enclave.id.name}-{name}")["HostConfig"]["NetworkMode"]
    return mode.removeprefix("container:") if mode.startswith("container:") else None


def closed(engine: DockerEngine, enclave: Enclave) -> None:
    """Close an enclave; its plot is then ready for the next."""
    assert enclave.site.close() == []
    settle(engine)


# Recycling


def test_one_enclave_after_another_is_in_the_same_pods(client, engine):
    prepared(engine)
    pods = []
    for _ in range(3):
        enclave = opened(engine)
        addresses = {name: enclave.up(name).address.ip_address for name in NAMES}
        pods.append([pod_of(client, enclave, name) for name in NAMES])
        assert [client.inspect_container(pod)["State"]["Running"] for pod in pods[-1]] == [True, True]
        for name in NAMES:
            assert enclave.sh(name, "hostname") == name
            assert f"{addresses[name]}\t{name}" in enclave.sh(name, "cat /etc/hosts")
            assert addresses["db"] in enclave.sh(name, "nslookup db")
        closed(engine, enclave)
    assert pods[0] == pods[1] == pods[2]
    assert None not in pods[0]


def test_each_of_two_enclaves_at_once_has_its_own(client, engine):
    prepared(engine)
    first = opened(engine)
    prepared(engine)
    second, third = opened(engine), opened(engine)
    used = []
    for enclave in (first, second, third):
        enclave.up("db")
        used.append(pod_of(client, enclave, "db"))
    assert used[2] is None
    assert len(set(used)) == 3
    assert len({enclave.site.reserve("db").ip_address for enclave in (first, second, third)}) == 3
    for enclave in (first, second, third):
        closed(engine, enclave)


def test_no_more_is_prepared_than_one_that_is_free(client, engine):
    prepared(engine)
    there = sorted(mine(client))
    assert len(there) == 3
    prepared(engine)
    engine.prepare(())
    assert sorted(mine(client)) == there


def test_other_services_get_no_plot_that_is_not_theirs(client, engine):
    prepared(engine)
    for names in ((), ("api",), ("api", "db", "more"), ("api", "other")):
        enclave = opened(engine, names)
        enclave.up("api")
        assert pod_of(client, enclave, "api") is None
        assert enclave.site.close() == []


def test_a_further_service_is_on_the_same_network(client, engine):
    prepared(engine)
    enclave = opened(engine)
    for name in ("api", "more"):
        enclave.up(name)
    assert pod_of(client, enclave, "more") is None
    assert enclave.site.reserve("more").ip_address in enclave.sh("api", "nslookup more")
    assert enclave.site.reserve("api").ip_address in enclave.sh("more", "nslookup api")
    closed(engine, enclave)


def test_a_service_that_publishes_a_port_has_no_pod(client, engine, unused_port):
    prepared(engine)
    enclave = opened(engine)
    address = enclave.site.reserve("db")
    spec = enclave.up("db", REDIS, public_ports={"redis": PortSpec(unused_port)}, ports={"redis": PortSpec(6379)})
    assert spec.address == address
    assert pod_of(client, enclave, "db") is None
    enclave.wait_open("db", PortSpec(6379))
    enclave.up("db")
    enclave.up("api")
    assert address.ip_address in enclave.sh("api", "nslookup db")
    closed(engine, enclave)
    again = opened(engine)
    assert again.up("db").address == address
    assert pod_of(client, again, "db") is not None
    closed(engine, again)


def test_a_removed_service_has_no_name_any_more(client, engine):
    prepared(engine)
    enclave = opened(engine)
    for name in NAMES:
        enclave.up(name)
    enclave.site.act("db", Action.REMOVE)
    assert enclave.site.exec("api", ["nslookup", "db"], None).code != 0
    address = enclave.up("db").address.ip_address
    assert address == enclave.site.reserve("db").ip_address
    assert address in enclave.sh("api", "nslookup db")
    closed(engine, enclave)


# What one service leaves to the next


def test_files_that_a_service_wrote_are_as_they_were(client, engine):
    prepared(engine)
    files = "cat /etc/hosts /etc/hostname /etc/resolv.conf; stat -c '%a %u' /etc/hosts /etc/hostname /etc/resolv.conf"
    first = opened(engine)
    first.up("db")
    before, pod = first.sh("db", files), pod_of(client, first, "db")
    for name in ("hosts", "hostname", "resolv.conf"):
        first.sh("db", f"echo changed >>/etc/{name}; chmod 600 /etc/{name}")
    closed(engine, first)
    second = opened(engine)
    second.up("db")
    assert pod_of(client, second, "db") == pod
    assert second.sh("db", files) == before
    closed(engine, second)


def test_files_are_those_that_the_engine_writes(client, engine):
    prepared(engine)
    pooled, plain = opened(engine), opened(engine, ())
    addresses = {}
    for enclave in (pooled, plain):
        addresses[enclave.id] = enclave.up("db").address.ip_address
    script = "for f in hosts hostname resolv.conf; do echo $f; cat /etc/$f; done; ls -la /etc | grep -c host"
    one, two = pooled.sh("db", script), plain.sh("db", script)
    assert one.replace(addresses[pooled.id], "IP") == two.replace(addresses[plain.id], "IP")
    closed(engine, plain)
    closed(engine, pooled)


def test_ports_are_free_for_the_next_service_even_if_it_shares_none(client, engine):
    prepared(engine)
    port = PortSpec(8000)
    serve = (
        "import socket\n"
        "s = socket.socket(); s.bind(('', 8000)); s.listen()\n"
        "kept = []\n"
        "while True:\n"
        "    c = s.accept()[0]\n"
        "    c.close() if c.recv(1) == b'c' else kept.append(c)\n"
    )
    pods = []
    for _ in range(2):
        enclave = opened(engine)
        address = enclave.up("db", PYTHON, cmd=("python3", "-u", "-c", serve)).address.ip_address
        enclave.wait_open("db", port)
        with socket.create_connection((address, 8000)) as to_close, socket.create_connection((address, 8000)) as kept:
            to_close.sendall(b"c")
            assert to_close.recv(1) == b""
            kept.sendall(b"k")
            pods.append(pod_of(client, enclave, "db"))
            assert enclave.site.exit_of("db") is None
            closed(engine, enclave)
    assert pods[0] == pods[1]


def test_requests_reach_the_next_service_at_the_same_address(client, engine):
    prepared(engine)
    for _ in range(3):
        enclave = opened(engine)
        enclave.up("api", NGINX)
        enclave.wait_open("api", PortSpec(80))
        assert enclave.site.request("api", PortSpec(80), HttpRequest("GET", "/"), None).code == 200
        assert pod_of(client, enclave, "api") is not None
        closed(engine, enclave)


def test_a_pod_that_something_else_lives_in_is_not_used_again(client, engine):
    prepared(engine)
    first = opened(engine)
    first.up("db")
    pod = pod_of(client, first, "db")
    serve = ["python3", "-m", "http.server"]
    stranger = client.create_container_from_config(
        {"Image": PYTHON, "Cmd": serve, "HostConfig": {"NetworkMode": f"container:{pod}"}}
    )["Id"]
    try:
        client.start(stranger)
        first.wait_open("db", PortSpec(8000))
        closed(engine, first)
    finally:
        client.remove_container(stranger, force=True)
    second = opened(engine)
    second.up("db")
    assert pod_of(client, second, "db") not in (pod, None)
    closed(engine, second)


def test_a_pod_where_a_killed_process_may_have_left_packets_is_not_used_again(client, engine):
    prepared(engine)
    first = opened(engine)
    first.up("db")
    pod = pod_of(client, first, "db")
    namespace = f"/proc/{client.inspect_container(pod)['State']['Pid']}/ns/net"
    link = [sys.executable, "-c", LINK, namespace, DELAYS]
    subprocess.run(link, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    closed(engine, first)
    second = opened(engine)
    second.up("db")
    assert pod_of(client, second, "db") not in (pod, None)
    closed(engine, second)


def test_a_network_that_others_are_on_is_not_used_again(client, engine):
    prepared(engine)
    first = opened(engine)
    first.up("db")
    network = first.site._network.ready().name
    stranger = client.create_container_from_config(
        {"Image": PYTHON, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": network}}
    )["Id"]
    try:
        client.start(stranger)
        closed(engine, first)
    finally:
        client.remove_container(stranger, force=True)
    second = opened(engine)
    assert second.site._network.ready().name != network
    closed(engine, second)


# Lifecycle in a pod that was used


def test_services_of_the_second_enclave_end_stop_start_and_run_out_of_memory(client, engine):
    prepared(engine)
    first = opened(engine)
    first.up("db", REDIS)
    first.site.act("db", Action.STOP)
    closed(engine, first)
    second = opened(engine)
    spec = second.up("db", REDIS, ports={"redis": PortSpec(6379)})
    second.wait_open("db", PortSpec(6379))
    second.site.act("db", Action.STOP)
    assert second.site.observe()["db"].status is Status.STOPPED
    second.site.act("db", Action.START)
    second.wait_open("db", PortSpec(6379))
    assert second.site.observe()["db"].ip_address == spec.address.ip_address
    hungry = ("python3", "-c", "data = bytearray(200_000_000); input()")
    second.up("api", PYTHON, cmd=hungry, max_memory=30)
    assert second.site.pause(10, watching="api") == Exit(137, out_of_memory=True)
    assert pod_of(client, second, "db") is not None
    assert pod_of(client, second, "api") is not None
    closed(engine, second)


def test_without_its_pod_a_service_starts_as_usual(client, engine):
    prepared(engine)
    enclave = opened(engine)
    pods = [container for container in mine(client) if container.endswith(("-api", "-db"))]
    for pod, remove in zip(sorted(pods), (True, False), strict=True):
        if remove:
            client.remove_container(pod, force=True)
        else:
            client.kill(pod)
    for name in NAMES:
        enclave.up(name)
        assert pod_of(client, enclave, name) is None
    closed(engine, enclave)
    again = opened(engine)
    again.up("db")
    assert enclave.id != again.id
    closed(engine, again)


# Ends, at any moment


def test_a_plot_is_taken_with_the_pods_that_it_has(client, engine, monkeypatch):
    made = threading.Event()
    make = plots.make_pod

    def slowly(*args):
        pod = make(*args)
        made.set()
        return pod

    monkeypatch.setattr(plots, "make_pod", slowly)
    monkeypatch.setattr(plots, "AT_A_TIME", 1)
    names = tuple(f"s{number}" for number in range(6))
    engine.prepare(names)
    assert made.wait(30)
    enclave = opened(engine, names)
    outcome = enclave.start(*(enclave.spec(name) for name in names))
    assert set(outcome.values()) == {None}
    in_pods = [pod_of(client, enclave, name) is not None for name in names]
    assert any(in_pods)
    assert not all(in_pods)
    closed(engine, enclave)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_closing_while_a_plot_is_prepared_leaves_nothing(client, docker_host, delay):
    engine = DockerEngine(docker_host)
    engine.capacity()
    engine.prepare(tuple(f"s{number}" for number in range(6)))
    time.sleep(delay)
    assert engine.close() == []
    assert mine(client) == []
    time.sleep(0.3)
    assert mine(client) == []


def test_closing_while_a_plot_is_in_use_and_while_it_comes_back_leaves_nothing(client, docker_host):
    engine = DockerEngine(docker_host)
    engine.capacity()
    prepared(engine)
    enclave = opened(engine)
    enclave.up("db")
    assert enclave.site.close() == []
    assert engine.close() == []
    assert mine(client) == []
    assert enclave.site.close() == []


def test_a_preparation_that_fails_leaves_nothing_and_is_not_repeated(client, engine, monkeypatch):
    calls = []

    def refuse(*args):
        calls.append(args)
        raise EngineError("no pods today")

    monkeypatch.setattr(plots, "make_pod", refuse)
    prepared(engine)
    assert mine(client) == []
    tried = len(calls)
    prepared(engine)
    assert len(calls) == tried
    enclave = opened(engine)
    enclave.up("db")
    assert pod_of(client, enclave, "db") is None
    assert enclave.site.close() == []


def test_where_pods_cannot_work_nothing_is_prepared(docker_host):
    for settings in ({"publish": True}, {"bind_mounts": False}):
        engine = DockerEngine(docker_host, **settings)
        engine.prepare(NAMES)
        assert engine._pool is None
        assert engine.close() == []


def test_the_temporary_files_of_plots_are_gone(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    prepared(engine)
    assert list(tmp_path.iterdir()) != []
    assert engine.close() == []
    assert list(tmp_path.iterdir()) == []


# Whole sessions


@pytest.fixture
def isolated_tests(tmp_path: Path) -> Path:
    """Seven isolated tests of one package, which write down what network each had and wait for a moment."""
    (tmp_path / "kurtosis.yml").write_text("name: github.com/engine/isolated\n")
    (tmp_path / "main.star").write_text(
        "def run(plan):\n"
        f'    config = ServiceConfig("{BUSYBOX}", cmd = ["sleep", "1000"])\n'
        '    plan.add_services({"api": config, "db": config})\n'
    )
    (tmp_path / "test_isolated.py").write_text(
        "import os, time, pytest, docker\n"
        "@pytest.mark.parametrize('n', range(7))\n"
        "@pytest.mark.enclave(isolate=True)\n"
        "def test_one(enclave, n):\n"
        "    with docker.APIClient(os.environ['DOCKER_HOST'], version='auto') as client:\n"
        "        mode = client.inspect_container(enclave.name + '-db')['HostConfig']['NetworkMode']\n"
        "    with open('networks', 'a') as networks: print(mode, file=networks)\n"
        "    time.sleep(2)\n"
    )
    return tmp_path


def pytest_on(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--enclave-engine=docker"]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_isolated_tests_of_a_session_share_two_plots(client, docker_host, isolated_tests):
    process = pytest_on(isolated_tests)
    output, _ = process.communicate(timeout=120)
    assert "7 passed" in output
    networks = (isolated_tests / "networks").read_text().split()
    in_pods = [mode for mode in networks if mode.startswith("container:")]
    assert len(in_pods) >= 3, networks
    assert len(set(in_pods)) < len(in_pods)
    assert mine(client, process.pid) == []


def test_a_session_that_is_told_to_end_while_a_plot_is_prepared_leaves_nothing(client, docker_host, isolated_tests):
    process = pytest_on(isolated_tests)
    give_up = time.monotonic() + 30
    while not mine(client, process.pid) and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert mine(client, process.pid) == [], output
    assert "7 passed" not in output


# The program, and the files


def test_the_pause_program_runs_and_waits(client, engine, tmp_path: Path):
    machine = os.uname().machine
    path = tmp_path / "pause"
    path.write_bytes(program(machine))
    path.chmod(0o755)
    process = subprocess.Popen([str(path)])
    time.sleep(0.1)
    assert process.poll() is None
    # It waits in the kernel, and takes no time.
    assert Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "S"
    process.send_signal(signal.SIGCONT)
    time.sleep(0.05)
    assert process.poll() is None
    process.kill()
    assert process.wait() == -9
    prepared(engine)
    image = client.inspect_image(REFERENCE)
    assert image["Size"] < 1024
    assert image["Config"]["Labels"] == {labels.PAUSE: "1"}


def test_the_program_is_an_executable_for_each_machine():
    assert {name: len(program(name)) for name in MACHINES} == {"x86_64": 129, "aarch64": 152}
    with pytest.raises(KeyError):
        program("vax")


def test_files_of_a_pod_are_those_of_another_with_its_name_and_address(tmp_path: Path):
    contents = {"hosts": "127.0.0.1\tlocalhost\n10.0.0.9\tother\n", "hostname": "other\n", "resolv.conf": "search x\n"}
    files = PodFiles("other", "10.0.0.9", contents)
    for _ in range(2):
        files.write(tmp_path / "db", "db", "10.0.0.2")
        assert (tmp_path / "db" / "hosts").read_text() == "127.0.0.1\tlocalhost\n10.0.0.2\tdb\n"
        assert (tmp_path / "db" / "hostname").read_text() == "db\n"
        assert (tmp_path / "db" / "resolv.conf").read_text() == "search x\n"
        (tmp_path / "db" / "hosts").write_text("spoilt")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_that_are_another_users_now_are_not_used(tmp_path: Path):
    files = PodFiles("other", "10.0.0.9", {"hostname": "other\n"})
    files.write(tmp_path / "db", "db", "10.0.0.2")
    os.chown(tmp_path / "db" / "hostname", 12345, -1)
    with pytest.raises(EngineError, match="another user's"):
        files.write(tmp_path / "db", "db", "10.0.0.2")
