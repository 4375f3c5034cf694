"""A web server for tests: files with versions, redirects, and answers that go wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What a path answers."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    cut: bool = False


@dataclass
class Web:
    """The server: its pages by path, and what was asked, each as path, headers and status."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], int]] = field(default_factory=list)

    def statuses(self) -> list[int]:
        """The status of every answer."""
        return [status for _, _, status in self.asked]


@contextmanager
def serving() -> Iterator[Web]:
    """A server of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.web = web = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers as the pages have it."""

    def do_GET(self) -> None:
        web: Web = self.server.web
        page = web.pages.get(self.path, Page(b"", 404))
        known = self.headers.get("If-None-Match") or self.headers.get("If-Modified-Since")
        current = page.headers.get("ETag") or page.headers.get("Last-Modified")
        status = 304 if page.status == 200 and known and known == current else page.status
        web.asked.append((self.path, dict(self.headers), status))
        self.send_response(status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if not page.endless:
            self.send_header("Content-Length", str(0 if status == 304 else len(page.body) + 100 * page.cut))
        self.end_headers()
        if status == 304:
            return
        self.wfile.write(page.body)
        try:
            while page.endless:
                self.wfile.write(b"x" * 4096)
        except OSError:
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""
