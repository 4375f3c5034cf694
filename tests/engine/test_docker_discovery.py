"""Finding a Docker engine: what is told wins, what is told wrongly is an error, and the rest is looked for."""

from __future__ import annotations

import hashlib
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pytest_enclave.engine.docker import discovery
from pytest_enclave.engine.docker.discovery import find_engine
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.errors import EngineUnavailable


class Engine(BaseHTTPRequestHandler):
    """Answers pings as an engine does."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/_ping" else 404)
        self.send_header("Server", "Docker/99.1 (linux)")
        self.send_header("Api-Version", "1.99")
        self.end_headers()
        self.wfile.write(b"OK")

    def version_string(self) -> str:
        return ""

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)

    def log_request(self, *_: object) -> None:
        pass


class Stranger(Engine):
    """A web server that is no engine."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("unix", 0)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Serves at a unix socket in the test's directory."""
    with ExitStack() as stack:

        def serve_at(name: str, handler: type[Engine] = Engine) -> Path:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            server = stack.enter_context(UnixServer(str(path), handler))
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
            return path

        yield serve_at


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment of a user without any configuration, on a machine without a default engine."""
    monkeypatch.setattr(discovery, "DEFAULT_SOCKET", str(tmp_path / "none" / "docker.sock"))
    return {"HOME": str(tmp_path)}


def context(home: Mapping[str, str], name: str, host: str) -> None:
    """What `docker context create` leaves in the user's configuration."""
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = Path(home["HOME"], ".docker/contexts/meta", key, "meta.json")
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))


def test_the_option_wins_over_the_environment(home, serve):
    there = serve("option.sock")
    found = find_engine(f"unix://{there}", {**home, "DOCKER_HOST": "unix:///nowhere"})
    assert found.probe.endpoint == f"unix://{there}"
    assert found.probe.why == "--enclave-docker-host"
    assert (found.probe.version, found.api_version) == ("99.1", "1.99")


def test_a_bare_path_is_understood(home, serve):
    there = serve("bare.sock")
    assert find_engine(str(there), home).probe.endpoint == f"unix://{there}"


def test_docker_host_wins_over_contexts(home, serve):
    there = serve("host.sock")
    found = find_engine(None, {**home, "DOCKER_HOST": f"unix://{there}", "DOCKER_CONTEXT": "unknown"})
    assert found.probe.why == "DOCKER_HOST"


def test_docker_host_may_be_tcp(home):
    with HTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        found = find_engine(None, {**home, "DOCKER_HOST": f"tcp://127.0.0.1:{server.server_port}"})
        server.shutdown()
    assert found.probe.version == "99.1"


def test_what_is_told_is_not_replaced_by_what_answers(home, serve):
    serve("none/docker.sock")
    with pytest.raises(EngineUnavailable, match=r"unix:///nowhere \(DOCKER_HOST\): there is no such socket") as it:
        find_engine(None, {**home, "DOCKER_HOST": "unix:///nowhere"})
    assert it.value.tried == (("unix:///nowhere", "there is no such socket"),)
    assert "unset DOCKER_HOST" in it.value.remedy


def test_the_variable_names_a_context(home, serve):
    there = serve("context.sock")
    context(home, "lab", f"unix://{there}")
    found = find_engine(None, {**home, "DOCKER_CONTEXT": "lab"})
    assert found.probe.endpoint == f"unix://{there}"
    assert found.probe.why == "Docker context 'lab', by DOCKER_CONTEXT"


def test_the_configuration_names_a_context(home, serve):
    there = serve("context.sock")
    context(home, "lab", f"unix://{there}")
    Path(home["HOME"], ".docker/config.json").write_text('{"currentContext": "lab"}')
    assert find_engine(None, home).probe.why == "Docker context 'lab', by docker context use"


def test_the_default_context_is_the_default_socket(home, serve):
    serve("none/docker.sock")
    assert find_engine(None, {**home, "DOCKER_CONTEXT": "default"}).probe.why == "the default socket"


def test_an_unknown_context_is_an_error_that_names_the_known_ones(home, serve):
    serve("none/docker.sock")
    context(home, "lab", "unix:///nowhere")
    message = r"no Docker context 'lap' \(named by DOCKER_CONTEXT\); there are: default, lab"
    with pytest.raises(EngineUnavailable, match=message):
        find_engine(None, {**home, "DOCKER_CONTEXT": "lap"})


def test_a_broken_configuration_is_an_error(home, serve):
    serve("none/docker.sock")
    Path(home["HOME"], ".docker").mkdir()
    Path(home["HOME"], ".docker/config.json").write_text("{")
    with pytest.raises(EngineUnavailable, match=r"config.json cannot be read"):
        find_engine(None, home)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (".docker/run/docker.sock", "the socket of Docker Desktop"),
        (".colima/default/docker.sock", "the socket of Colima"),
        (".orbstack/run/docker.sock", "the socket of OrbStack"),
        (".rd/docker.sock", "the socket of Rancher Desktop"),
    ],
)
def test_sockets_of_other_products_are_found(home, serve, path, why):
    serve(path)
    assert find_engine(None, home).probe.why == why


def test_a_rootless_engine_is_found(home, serve, tmp_path):
    serve("run/docker.sock")
    assert find_engine(None, {**home, "XDG_RUNTIME_DIR": str(tmp_path / "run")}).probe.why == (
        "the socket of rootless Docker"
    )


def test_a_socket_that_does_not_answer_is_passed_over(home, serve):
    serve(".colima/default/docker.sock", Stranger)
    serve(".rd/docker.sock")
    assert find_engine(None, home).probe.why == "the socket of Rancher Desktop"


def test_nothing_found_tells_all_that_was_tried(home, serve):
    desktop = serve(".docker/run/docker.sock", Stranger)
    with pytest.raises(EngineUnavailable, match="no Docker engine answers") as it:
        find_engine(None, home)
    assert dict(it.value.tried) == {
        f"unix://{discovery.DEFAULT_SOCKET}": "there is no such socket",
        f"unix://{desktop}": "what answers is not a Docker engine (status 404)",
    }
    assert "--enclave-docker-host" in it.value.remedy


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("fd://", "not an address that can be connected to"),
        ("tcp://127.0.0.1:1", "nothing listens there"),
        (f"unix://{__file__}", "nothing listens there"),
    ],
)
def test_reasons_are_told_in_a_few_words(home, host, reason):
    with pytest.raises(EngineUnavailable, match=reason):
        find_engine(host, home)


def test_looking_for_an_engine_does_not_import_the_sdk():
    script = (
        "import sys; from pytest_enclave.engine.docker.engine import DockerEngine\n"
        "try: DockerEngine('unix:///nowhere').probe()\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(sorted({'docker', 'requests', 'urllib3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["EngineUnavailable", "[]"]


def test_the_real_engine_is_found(docker_host: str):
    probe = DockerEngine(None, {"DOCKER_HOST": docker_host}).probe()
    assert probe.endpoint == docker_host
    assert probe.version
