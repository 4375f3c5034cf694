"""Having images there: progress, mirrors, and why one cannot be had, told apart by what to do about it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.pull_failures import PullFailed, problem_of
from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.plan.events import Event, ImageProgress, Warned, silent


@dataclass
class Registry:
    """A registry on the loopback address, with one image of one small layer, under whatever name."""

    address: str = ""
    failures: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    stalls: set[str] = field(default_factory=set)
    release: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("file"), io.BytesIO())
        diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
        self.blobs: dict[str, bytes] = {}
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}
        docker_type = "application/vnd.docker"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{docker_type}.distribution.manifest.v2+json",
                "config": self._blob(f"{docker_type}.container.image.v1+json", json.dumps(config).encode()),
                "layers": [self._blob(f"{docker_type}.image.rootfs.diff.tar.gzip", gzip.compress(layer.getvalue()))],
            }
        ).encode()

    def _blob(self, media_type: str, data: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "size": len(data), "digest": digest}


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, kind, what = [*self.path.strip("/").rsplit("/", 2), "", ""][:3]
            name = name.removeprefix("v2/")
            if name in registry.stalls:
                registry.release.wait(10)
            if name in registry.failures and kind == "manifests":
                status, code, message = registry.failures[name]
                self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())
            elif kind == "manifests":
                kind = "application/vnd.docker.distribution.manifest.v2+json"
                self.answer(200, registry.manifest, kind)
            elif kind == "blobs":
                self.answer(200, registry.blobs[what], "application/octet-stream")
            else:
                self.answer(200, b"{}")

        do_HEAD = do_GET  # noqa: N815

        def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if "manifest.v2" in kind:
                self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_request(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        registry.address = f"127.0.0.1:{server.server_port}"
        yield registry
        registry.release.set()
        server.shutdown()


@pytest.fixture
def forget(docker_host: str) -> Iterator[list[str]]:
    """Images to remove at the end."""
    pulled: list[str] = []
    yield pulled
    with docker.APIClient(docker_host, version="auto") as client:
        for reference in pulled:
            client.remove_image(reference, force=True)


def resolve(engine: DockerEngine, reference: str, policy: PullPolicy = PullPolicy.MISSING, emit=silent):
    return engine.resolve_images([reference], policy, emit)[reference]


def test_a_missing_image_is_pulled_and_progress_is_told(docker_engine, registry, forget):
    reference = f"{registry.address}/shop/api:1"
    forget.append(reference)
    events: list[Event] = []
    digest = resolve(docker_engine, reference, emit=events.append)
    assert digest == docker_engine.local_images([reference])[reference]
    assert str(digest).startswith("sha256:")
    assert events[-1] == ImageProgress(reference, 0, 0, done=True)


def test_a_mirror_is_asked_first_and_the_image_has_its_plain_name(docker_host, registry, forget):
    engine = DockerEngine(docker_host, mirror=f"{registry.address}/hub")
    forget += ["enclave-test-mirrored:1", f"{registry.address}/hub/enclave-test-mirrored:1"]
    assert str(resolve(engine, "enclave-test-mirrored:1")).startswith("sha256:")
    assert engine.local_images(["enclave-test-mirrored:1"])["enclave-test-mirrored:1"]
    engine.close()


def test_a_registry_that_is_not_there_is_told(docker_engine):
    problem = resolve(docker_engine, "127.0.0.1:1/shop/api:1")
    assert isinstance(problem, Problem)
    assert problem.message == (
        'image "127.0.0.1:1/shop/api:1": its registry cannot be reached (127.0.0.1:1: connection refused)'
    )
    assert problem.subject == "127.0.0.1:1/shop/api:1"
    assert "Offline" in problem.remedy


def test_a_missing_tag_is_told_with_similar_local_ones(docker_engine, registry, docker_host):
    registry.failures["shop/api"] = (404, "MANIFEST_UNKNOWN", "manifest unknown")
    reference = f"{registry.address}/shop/api:latst"
    with docker.APIClient(docker_host, version="auto") as client:
        client.tag("enclave-test/busybox:local", f"{registry.address}/shop/api", "latest")
        try:
            problem = resolve(docker_engine, reference)
        finally:
            client.remove_image(f"{registry.address}/shop/api:latest")
    assert "its registry has no such image or tag" in problem.message
    assert f"the engine has {registry.address}/shop/api:latest" in problem.message


def test_a_denied_image_is_told(docker_engine, registry):
    registry.failures["shop/secret"] = (403, "DENIED", "requested access to the resource is denied")
    problem = resolve(docker_engine, f"{registry.address}/shop/secret:1")
    assert "or does not let you see it" in problem.message
    assert "docker login" in problem.remedy


def test_a_rate_limit_is_told(docker_engine, registry):
    registry.failures["shop/busy"] = (429, "TOOMANYREQUESTS", "You have reached your pull rate limit")
    problem = resolve(docker_engine, f"{registry.address}/shop/busy:1")
    assert "pull rate limit" in problem.message


def test_a_pull_that_stands_still_is_given_up(docker_host, registry):
    engine = DockerEngine(docker_host, stall=0.5)
    registry.stalls.add("shop/slow")
    problem = resolve(engine, f"{registry.address}/shop/slow:1")
    assert "stands still for 0.5s" in problem.message
    engine.close()


def test_something_that_is_no_image_name_is_told(docker_engine):
    problem = resolve(docker_engine, "Not An Image")
    assert "that is not the name of an image" in problem.message


def test_always_uses_what_is_local_when_the_registry_fails_and_says_so(docker_engine, registry, docker_host):
    registry.failures["shop/api"] = (429, "TOOMANYREQUESTS", "You have reached your pull rate limit")
    reference = f"{registry.address}/shop/api:1"
    events: list[Event] = []
    with docker.APIClient(docker_host, version="auto") as client:
        client.tag("enclave-test/busybox:local", f"{registry.address}/shop/api", "1")
        try:
            digest = resolve(docker_engine, reference, PullPolicy.ALWAYS, events.append)
        finally:
            client.remove_image(reference)
    assert str(digest).startswith("sha256:")
    (warned,) = events
    assert isinstance(warned, Warned)
    assert "the image that the engine already has is used" in warned.problem.message
    assert warned.problem.severity == "warning"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "no build of it for this engine's platform (linux/arm64/v8)",
        ),
        (
            'Head "https://ghcr.io/v2/a/manifests/1": unauthorized',
            "its registry wants other credentials",
        ),
        (
            "pull access denied for nope, repository does not exist or may require 'docker login': denied: "
            "requested access to the resource is denied",
            "has no such image, or does not let you see it",
        ),
        (
            'Get "https://registry.example/v2/": dial tcp: lookup registry.example on 1.2.3.4:53: no such host',
            "cannot be reached (registry.example: no such host)",
        ),
        (
            'Get "https://r.example/v2/": x509: certificate signed by unknown authority',
            "is not trusted (r.example: certificate signed by unknown authority)",
        ),
        ("write /var/lib/docker/tmp/x: no space left on device", "the engine's disk is full"),
        ("something new", "it cannot be pulled: something new"),
    ],
)
def test_what_engines_say_is_told_in_our_words(said, told):
    assert told in problem_of("a:1", PullFailed(said), []).message
