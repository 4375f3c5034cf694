"""A registry in this process that does what a test tells it: permissions, broken connections, answers of trouble."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.images_room.builder import Built, descriptor, digest_of, index


@dataclass
class FakeRegistry:
    """What it has, and how it behaves. `asked` are the requests so far: method, path, headers."""

    address: str = ""
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    password: str = ""
    refresh_token: str = ""
    tokens: bool = False
    trouble: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers to answer the next requests for blobs and manifests with."""
    refuse: tuple[int, str, str] | None = None
    """Status, code and message for every manifest."""
    break_after: int = 0
    """Bytes of a blob after which the connection is cut, each time."""
    stall: bool = False
    """Whether the connection is kept open then, silent."""
    ranges: bool = True
    storage: str = ""
    """Where blobs are to be had instead."""
    release: threading.Event = field(default_factory=threading.Event)

    def push(self, name: str, image: Built) -> str:
        """Have an image under `repository:tag`; its full reference."""
        self.blobs.update(image.blobs)
        repository, _, tag = name.rpartition(":")
        for key in (tag, digest_of(image.manifest)):
            self.manifests[f"{repository}/{key}"] = (image.manifest, image.manifest_type)
        return f"{self.address}/{name}"

    def push_index(self, name: str, images: dict[tuple[str, ...], Built]) -> str:
        """Have several builds under one name, by architecture and variant."""
        entries = []
        for (architecture, *variant), image in images.items():
            self.push(name, image)
            told = {"os": "linux", "architecture": architecture, **({"variant": variant[0]} if variant else {})}
            entries.append(descriptor(image.manifest, image.manifest_type, platform=told))
        repository, _, tag = name.rpartition(":")
        data = index(*entries)
        self.manifests[f"{repository}/{tag}"] = (data, "application/vnd.oci.image.index.v1+json")
        return f"{self.address}/{name}"

    def count(self, part: str) -> int:
        """How many requests had this in their path."""
        return sum(part in path for _, path, _ in self.asked)

    @property
    def repeated(self) -> list[str]:
        """Paths that were asked for more than once."""
        return [path for path, times in Counter(path for _, path, _ in self.asked).items() if times > 1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append((self.command, self.path, dict(self.headers)))
            path = urlsplit(self.path).path
            if path == "/token":
                self.token()
            elif not self.allowed():
                self.refuse(401, "UNAUTHORIZED", "authentication required", self.challenge())
            elif registry.trouble:
                status, headers = registry.trouble.pop(0)
                self.refuse(status, "TROUBLE", "not now", headers)
            else:
                repository, kind, what = path.removeprefix("/v2/").rsplit("/", 2)
                self.blob(what) if kind == "blobs" else self.manifest(f"{repository}/{what}")

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            registry.asked.append((self.command, self.path, {key: each[0] for key, each in form.items()}))
            if form["refresh_token"] == [registry.refresh_token]:
                self.answer(200, json.dumps({"access_token": "let-me-in"}).encode())
            else:
                self.refuse(401, "UNAUTHORIZED", "no")

        def challenge(self) -> dict[str, str]:
            realm = f'Bearer realm="http://{registry.address}/token",service="fake",scope="repository:x:pull"'
            return {"WWW-Authenticate": realm if registry.tokens else 'Basic realm="fake"'}

        def basic(self) -> bool:
            expected = base64.b64encode(f"me:{registry.password}".encode()).decode()
            return self.headers.get("Authorization") == f"Basic {expected}"

        def allowed(self) -> bool:
            if registry.tokens:
                return self.headers.get("Authorization") == "Bearer let-me-in"
            return not registry.password or self.basic()

        def token(self) -> None:
            if registry.password and "Authorization" in self.headers and not self.basic():
                self.refuse(401, "UNAUTHORIZED", "incorrect username or password")
            else:
                ok = not registry.password or self.basic()
                self.answer(200, json.dumps({"token": "let-me-in" if ok else "a-stranger"}).encode())

        def manifest(self, key: str) -> None:
            if registry.refuse:
                self.refuse(*registry.refuse)
            elif key in registry.manifests:
                data, media_type = registry.manifests[key]
                self.answer(200, data, {"Content-Type": media_type})
            else:
                self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")

        def blob(self, digest: str) -> None:
            if registry.storage:
                self.answer(307, b"", {"Location": f"{registry.storage}{self.path}"})
                return
            data = registry.blobs[digest]
            start = 0
            if registry.ranges and "Range" in self.headers:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            part = data[start:]
            cut = registry.break_after
            self.wfile.write(part[:cut] if cut else part)
            self.wfile.flush()
            if cut and len(part) > cut:
                if registry.stall:
                    registry.release.wait(20)
                self.close_connection = True

        def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
            body = {"errors": [{"code": code, "message": message}]}
            self.answer(status, json.dumps(body).encode(), headers)

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        registry.address = f"127.0.0.1:{server.server_port}"
        yield registry
        registry.release.set()
        server.shutdown()
