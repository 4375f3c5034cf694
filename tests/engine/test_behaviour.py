"""What every engine with real services does: the same tests for each."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import (
    Action,
    DeadlineExceeded,
    Engine,
    Exit,
    HttpRequest,
    NotReached,
)
from pytest_enclave.errors import ImageUnavailable, ServiceError
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import BUSYBOX, NGINX, PYTHON, REDIS, Enclave

HTTP = PortSpec(80)
GET = HttpRequest("GET", "/")


def content(stream) -> dict[str, bytes]:
    """The files of a tar stream."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


# Starting


def test_a_started_service_runs_from_its_image_at_its_reserved_address(engine: Engine, shared: Enclave):
    address = shared.site.reserve("plain")
    shared.up("plain")
    fact = shared.site.observe()["plain"]
    assert fact.status is Status.RUNNING
    assert fact.ip_address == address.ip_address
    assert fact.image == engine.local_images([BUSYBOX])[BUSYBOX]
    assert fact.exit_code is None
    assert address.ip_address in shared.sh("plain", "ip addr show")


def test_the_hostname_is_the_services_name(shared: Enclave):
    shared.up("named")
    assert shared.site.reserve("named").hostname == "named"
    assert shared.sh("named", "hostname") == "named"


def test_services_find_each_other_by_name(shared: Enclave):
    shared.start(shared.spec("asking"), shared.spec("answering", NGINX, ports={"http": HTTP}))
    shared.wait_open("answering", HTTP)
    assert "Welcome to nginx" in shared.sh("asking", "wget -qO- http://answering/")


def test_services_have_the_environment_that_they_were_given(shared: Enclave):
    shared.up("env", env_vars={"GREETING": "hello = world", "EMPTY": "", "UNICODE": "zażółć"})
    assert shared.sh("env", 'echo "$GREETING|$EMPTY|$UNICODE"') == "hello = world||zażółć"


def test_cmd_alone_keeps_the_images_entrypoint(shared: Enclave):
    shared.up("cmd", cmd=("sh", "-c", "echo from cmd; sleep 1000000"))
    assert last_line(shared, "cmd") == "from cmd"


def test_entrypoint_and_cmd_are_put_together(shared: Enclave):
    shared.up("both", entrypoint=("sh", "-c"), cmd=("echo $0; sleep 1000000", "from both"))
    assert last_line(shared, "both") == "from both"


def test_entrypoint_alone_drops_the_images_cmd(shared: Enclave):
    shared.up("entry", REDIS, entrypoint=("echo", "alone"))
    assert shared.site.pause(5, watching="entry") == Exit(0)
    assert [line.text for line in shared.site.logs("entry")] == ["alone"]


def test_neither_means_the_images_own_command(shared: Enclave):
    shared.up("own", REDIS, ports={"redis": PortSpec(6379)})
    shared.wait_open("own", PortSpec(6379))
    assert shared.sh("own", "redis-cli ping") == "PONG"


def test_a_batch_starts_in_parallel_and_tells_which_failed(shared: Enclave):
    good = [shared.spec(f"batch-{number}") for number in range(3)]
    outcome = shared.start(*good, shared.spec("batch-bad", cmd=("no-such-program",)))
    assert [outcome[spec.name] for spec in good] == [None, None, None]
    error = outcome["batch-bad"]
    assert isinstance(error, ServiceError)
    assert error.service == "batch-bad"
    assert "its command is not in the image" in error.message
    assert "no-such-program" in error.message
    assert "batch-bad" not in shared.site.observe()


def test_an_image_that_is_not_there_is_told(shared: Enclave):
    error = shared.start(shared.spec("imageless", "enclave-test/nothing:none", cmd=()))["imageless"]
    assert isinstance(error, ImageUnavailable)
    assert "enclave-test/nothing:none" in error.message


def test_a_service_is_replaced_and_keeps_its_address(shared: Enclave):
    first = shared.up("replaced", env_vars={"VERSION": "1"})
    second = shared.up("replaced", env_vars={"VERSION": "2"})
    assert first.address == second.address
    assert shared.sh("replaced", "echo $VERSION") == "2"
    assert shared.site.observe()["replaced"].ip_address == first.address.ip_address


def test_addresses_are_all_different(shared: Enclave):
    addresses = {shared.site.reserve(f"reserved-{number}").ip_address for number in range(20)}
    assert len(addresses) == 20


# Files


def test_artifacts_are_there_and_cannot_be_written(shared: Enclave, tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.txt").write_text("content")
    shared.artifacts["files"] = tmp_path
    shared.up("mounted", files={"/etc/given": "files", "/also": "files"})
    assert shared.sh("mounted", "cat /etc/given/deep/file.txt /also/deep/file.txt") == "contentcontent"
    refused = shared.site.exec("mounted", ["touch", "/etc/given/new"], None)
    assert refused.code != 0
    assert "Read-only file system" in refused.output


def test_files_and_directories_are_read_as_tar_streams(shared: Enclave):
    shared.up("read")
    shared.sh("read", "mkdir -p /d/e; echo one >/d/one; echo two >/d/e/two; ln -s /d/one /link")
    assert content(shared.site.read("read", "/d/one")) == {"one": b"one\n"}
    assert content(shared.site.read("read", "/d")) == {"d/one": b"one\n", "d/e/two": b"two\n"}
    assert content(shared.site.read("read", "/link")) == {"one": b"one\n"}


def test_files_of_an_ended_service_can_be_read(shared: Enclave):
    shared.up("read-late", cmd=("sh", "-c", "echo left >/left"))
    assert shared.site.pause(5, watching="read-late") == Exit(0)
    assert content(shared.site.read("read-late", "/left")) == {"left": b"left\n"}


def test_a_missing_file_is_told(shared: Enclave):
    shared.up("read-missing")
    with pytest.raises(NotReached, match="/no/such/file"):
        shared.site.read("read-missing", "/no/such/file")


# Commands


def test_exec_gives_code_and_merged_output(shared: Enclave):
    shared.up("exec")
    result = shared.site.exec("exec", ["sh", "-c", "echo out; sleep .1; echo err >&2; exit 3"], None)
    assert (result.code, result.output) == (3, "out\nerr\n")


def test_exec_runs_no_shell(shared: Enclave):
    shared.up("shell-less")
    assert shared.site.exec("shell-less", ["echo", "a && b $PATH"], None).output == "a && b $PATH\n"


def test_exec_output_that_is_not_text_is_told_all_the_same(shared: Enclave):
    shared.up("binary")
    assert shared.site.exec("binary", ["printf", r"a\377b"], None).output == "a\ufffdb"


def test_exec_gives_large_output_in_full(shared: Enclave):
    shared.up("large")
    result = shared.site.exec("large", ["sh", "-c", "yes 0123456789 | head -c 3000000"], None)
    assert len(result.output) == 3_000_000


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_exec_of_what_cannot_be_executed_gives_the_shells_codes(shared: Enclave, command: str, code: int):
    shared.up("missing")
    result = shared.site.exec("missing", [command], None)
    assert result.code == code
    assert command in result.output
    assert "OCI" not in result.output


def assert_told(error: DeadlineExceeded) -> None:
    """It says something, and drags no error of another library behind it."""
    assert str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_exec_ends_at_its_deadline_and_so_does_the_command(engine: Engine, shared: Enclave):
    shared.up("slow")
    began = engine.clock.now()
    with pytest.raises(DeadlineExceeded) as caught:
        shared.site.exec("slow", ["sh", "-c", "echo some; sleep 4321; true"], began + 0.3)
    assert_told(caught.value)
    assert engine.clock.now() - began < 1.5
    assert "4321" not in shared.sh("slow", "ps")


def test_exec_in_what_does_not_run_is_not_reached(shared: Enclave):
    shared.up("down")
    shared.site.act("down", Action.KILL)
    with pytest.raises(NotReached, match="ended with exit code 137"):
        shared.site.exec("down", ["true"], None)
    with pytest.raises(NotReached, match="no such service"):
        shared.site.exec("never-was", ["true"], None)


def test_exec_in_a_paused_service_is_not_reached(shared: Enclave):
    shared.up("exec-paused")
    shared.site.act("exec-paused", Action.PAUSE)
    with pytest.raises(NotReached, match="paused"):
        shared.site.exec("exec-paused", ["true"], None)
    shared.site.act("exec-paused", Action.RESUME)


# Ports


def test_a_port_is_dialled_from_the_test_process(shared: Enclave):
    shared.up("web", NGINX, ports={"http": HTTP})
    shared.wait_open("web", HTTP)
    endpoint = shared.site.dial("web", HTTP)
    response = shared.site.request("web", HTTP, GET, None)
    assert response.code == 200
    assert b"Welcome to nginx" in response.body
    assert endpoint.port > 0


def test_a_port_that_nothing_listens_on_does_not_accept(shared: Enclave):
    shared.up("deaf", ports={"http": HTTP})
    assert not shared.site.accepts("deaf", HTTP)
    with pytest.raises(NotReached, match=r"refused|closed|reset"):
        shared.site.request("deaf", HTTP, GET, time.monotonic() + 2)


def test_udp_ports_are_always_taken_to_accept(shared: Enclave):
    shared.up("udp", ports={"dns": PortSpec(53, "UDP")})
    assert shared.site.accepts("udp", PortSpec(53, "UDP"))


def test_a_request_ends_at_its_deadline(engine: Engine, shared: Enclave):
    port = PortSpec(8000)
    mute = "import socket, time; s = socket.create_server(('', 8000)); time.sleep(1000)"
    shared.up("silent", PYTHON, cmd=("python3", "-c", mute), ports={"http": port})
    shared.wait_open("silent", port)
    began = engine.clock.now()
    with pytest.raises(DeadlineExceeded) as caught:
        shared.site.request("silent", port, GET, began + 0.3)
    assert_told(caught.value)
    assert engine.clock.now() - began < 1.5


def test_requests_carry_method_headers_and_body(shared: Enclave):
    port = PortSpec(8000)
    shared.up("echo", PYTHON, cmd=("python3", "-c", ECHO), ports={"http": port})
    shared.wait_open("echo", port)
    request = HttpRequest("POST", "/a?b=c", {"X-Mine": "yes"}, b"body")
    response = shared.site.request("echo", port, request, None)
    assert response.code == 418
    assert response.headers["X-Answer"] == "42"
    assert response.body == b"POST /a?b=c yes body"


def test_public_ports_are_on_loopback_at_their_number(shared: Enclave, unused_port: int):
    public = PortSpec(unused_port)
    shared.up("public", NGINX, ports={"http": HTTP}, public_ports={"http": public})
    shared.wait_open("public", HTTP)
    endpoint = shared.site.dial("public", HTTP)
    assert (endpoint.host, endpoint.port) == ("127.0.0.1", unused_port)


def test_requests_reach_the_service_that_has_the_name_now(shared: Enclave):
    for version in range(6):
        shared.up("successor", NGINX, ports={"http": HTTP}, env_vars={"VERSION": str(version)})
        shared.wait_open("successor", HTTP)
        for _ in range(4):
            assert shared.site.request("successor", HTTP, GET, time.monotonic() + 2).code == 200
            shared.site.pause(0.1)


def test_a_replaced_service_is_published_as_it_is_now(shared: Enclave, unused_port: int):
    ports = {"http": HTTP}
    shared.up("republished", NGINX, ports=ports)
    shared.wait_open("republished", HTTP)
    shared.site.dial("republished", HTTP)
    for version in ("1", "2"):
        public = {"http": PortSpec(unused_port)}
        shared.up("republished", NGINX, ports=ports, public_ports=public, env_vars={"VERSION": version})
        shared.wait_open("republished", HTTP)
        endpoint = shared.site.dial("republished", HTTP)
        assert (endpoint.host, endpoint.port) == ("127.0.0.1", unused_port)
        assert shared.site.request("republished", HTTP, GET, None).code == 200


def last_line(enclave: Enclave, service: str) -> str:
    """The last line that a service has written, as soon as there is one."""
    for _ in range(100):
        if lines := enclave.site.logs(service):
            return lines[-1].text
        enclave.site.pause(0.02)
    raise AssertionError(f"{service} wrote nothing")


ECHO = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Echo(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = f"{self.command} {self.path} {self.headers['X-Mine']} ".encode() + body
        self.send_response(418)
        self.send_header("X-Answer", "42")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
HTTPServer(("", 8000), Echo).serve_forever()
"""
