"""`plan.upload_files` of a URL: downloaded when it executes, asked for again in each run, stored when it is new."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_enclave.errors import ExecutionError, InterpretationError
from pytest_enclave.instructions import download as downloading
from pytest_enclave.instructions.download import State, download, file_name, shown
from tests.instructions.web_server import Page, Web, serving
from tests.laboratory import Laboratory


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server, asked without any proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        server.pages["/files/app.conf"] = Page(b"one", headers={"ETag": '"1"'})
        yield server


def upload(web: Web, path: str = "/files/app.conf", more: str = ', name = "conf"') -> str:
    """A plan that uploads from the web."""
    return f'f = plan.upload_files("{web.url}{path}"{more})\n'


def content(lab: Laboratory, name: str = "conf") -> dict[str, bytes]:
    """The files of an artifact."""
    return {path.name: path.read_bytes() for path in lab.state.artifacts.directory(name).iterdir()}


def test_a_file_of_the_web_is_stored_under_its_own_name(lab: Laboratory, web: Web):
    finished = lab.ok(upload(web, more="") + "return f")
    assert finished.output.startswith("upload-")
    assert content(lab, finished.output) == {"app.conf": b"one"}
    assert finished.instructions[0].message == (
        f"files artifact `{finished.output}` holds app.conf from {web.url}/files/app.conf"
    )


def test_nothing_is_fetched_before_it_executes(lab: Laboratory, web: Web):
    lab.error(upload(web) + 'plan.exec("nobody", ExecRecipe(command = ["x"]))')
    assert web.asked == []


def test_what_is_unchanged_is_asked_for_but_not_sent_again(lab: Laboratory, web: Web):
    plan = upload(web) + 'plan.add_service("s", ServiceConfig(image = "img", files = {"/f": f}))'
    lab.ok(plan)
    for _ in range(2):
        steps = lab.ok(plan).instructions
        assert [str(step.outcome) for step in steps] == ["updated", "skipped"]
        assert steps[0].message == f"{web.url}/files/app.conf is unchanged"
    assert web.statuses() == [200, 304, 304]
    assert content(lab) == {"app.conf": b"one"}


def test_what_is_new_replaces_the_artifact_and_the_services_that_mount_it(lab: Laboratory, web: Web):
    plan = upload(web) + 'plan.add_service("s", ServiceConfig(image = "img", files = {"/f": f}))'
    lab.ok(plan)
    web.pages["/files/app.conf"] = Page(b"two", headers={"ETag": '"2"'})
    assert lab.outcomes(plan) == ["updated", "updated"]
    assert content(lab) == {"app.conf": b"two"}
    assert lab.outcomes(plan) == ["updated", "skipped"]


def test_a_server_without_versions_sends_it_again_and_the_same_changes_nothing(lab: Laboratory, web: Web):
    web.pages["/files/app.conf"] = Page(b"one")
    plan = upload(web) + 'plan.add_service("s", ServiceConfig(image = "img", files = {"/f": f}))'
    lab.ok(plan)
    assert lab.outcomes(plan) == ["updated", "skipped"]
    assert web.statuses() == [200, 200]


def test_a_version_may_be_a_date(lab: Laboratory, web: Web):
    web.pages["/files/app.conf"] = Page(b"one", headers={"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"})
    lab.ok(upload(web))
    lab.ok(upload(web))
    assert web.statuses() == [200, 304]


def test_an_artifact_that_something_else_has_replaced_is_fetched_whole(lab: Laboratory, web: Web):
    lab.ok(upload(web))
    lab.ok('plan.render_templates({"t": struct(template = "x", data = {})}, name = "conf")')
    lab.ok(upload(web))
    assert web.statuses() == [200, 200]
    assert content(lab) == {"app.conf": b"one"}


def test_redirects_are_followed_and_the_name_is_that_of_the_url(lab: Laboratory, web: Web):
    web.pages["/latest"] = Page(status=302, headers={"Location": "/files/app.conf"})
    web.pages["/first"] = Page(status=307, headers={"Location": f"{web.url}/latest"})
    lab.ok(upload(web, "/first"))
    assert content(lab) == {"first": b"one"}
    assert web.statuses() == [307, 302, 200]


def test_name_and_password_of_a_url_are_sent_and_never_shown(lab: Laboratory, web: Web):
    url = web.url.replace("//", "//me:s%40cret@") + "/files/app.conf"
    finished = lab.ok(f'plan.upload_files("{url}", name = "conf")')
    assert web.asked[0][1]["Authorization"] == "Basic bWU6c0BjcmV0"
    assert "cret" not in finished.instructions[0].message
    error = lab.error(f'plan.upload_files("{url}x", name = "conf")')
    assert error.message == f"cannot download {web.url}/files/app.confx: the server says 404 Not Found"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (Page(status=404), "the server says 404 Not Found"),
        (Page(status=500), "the server says 500 Internal Server Error"),
        (Page(status=204), "the server says 204 No Content"),
        (Page(b"half", cut=True), "the connection ended with 100 bytes missing"),
        (Page(status=302, headers={"Location": "file:///etc/passwd"}),
         "it leads to file:///etc/passwd, which is not fetched"),
        (Page(status=302, headers={"Location": "ftp://a/b"}), "it leads to ftp://a/b, which is not fetched"),
        (Page(status=301, headers={"Location": "/page"}), "it leads on more than 5 times"),
    ],
)  # fmt: skip
def test_what_cannot_be_downloaded_is_told(lab: Laboratory, web: Web, page: Page, told: str):
    web.pages["/page"] = page
    error = lab.error(upload(web, "/page"))
    assert type(error) is ExecutionError
    assert error.message == f"cannot download {web.url}/page: {told}"
    assert lab.state.artifacts.names() == ()


def test_a_server_that_is_not_there_is_told(lab: Laboratory, web: Web):
    error = lab.error('plan.upload_files("http://127.0.0.1:1/f")')
    assert error.message == "cannot download http://127.0.0.1:1/f: Connection refused"


def test_a_secure_url_does_not_lead_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    moved = SimpleNamespace(status=301, reason="", headers={"Location": "http://host/f"}, close=lambda: None)
    monkeypatch.setattr(downloading, "_request", lambda *_: moved)
    with pytest.raises(ExecutionError) as caught:
        download("https://host/f", tmp_path, State(), None)
    assert caught.value.message == "cannot download https://host/f: it leads from https to http://host/f"


def test_a_download_has_a_largest_size(lab: Laboratory, web: Web, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloading, "LARGEST", 1 << 20)
    web.pages["/page"] = Page(endless=True)
    error = lab.error(upload(web, "/page"))
    assert error.message == f"cannot download {web.url}/page: it has more than 1 MB"
    assert error.remedy == "let a service fetch it, or have it in an image"


def test_a_download_has_a_longest_time(lab: Laboratory, web: Web, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloading, "LONGEST", 0.2)
    web.pages["/page"] = Page(endless=True)
    error = lab.error(upload(web, "/page"))
    assert error.message == f"cannot download {web.url}/page: it took longer than 0.2 s"


def test_a_server_that_says_nothing_is_given_up(lab: Laboratory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloading, "SILENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/f"
        error = lab.error(f'plan.upload_files("{url}")')
    assert error.message == f"cannot download {url}: nothing came for 0.1 s"


@pytest.mark.parametrize(
    ("src", "told"),
    [
        ("http://", "upload_files: `src` is a URL without a host"),
        ("https:///path", "upload_files: `src` is a URL without a host"),
        ("http://a:b/", "upload_files: `src` is no URL: Port could not be cast to integer value as 'b'"),
        ("http://a/b c", "upload_files: `src` is a URL with characters that have to be percent-encoded"),
        ("http://a/ü", "upload_files: `src` is a URL with characters that have to be percent-encoded"),
    ],
)
def test_what_is_no_such_url_is_told_by_the_interpretation(lab: Laboratory, src: str, told: str):
    error = lab.error(f'plan.upload_files("{src}")')
    assert type(error) is InterpretationError
    assert error.message == told


def test_a_url_must_be_known_before_execution(lab: Laboratory):
    error = lab.error('r = plan.run_sh(run = "x")\nplan.upload_files("http://host/" + r.output)')
    assert error.message == (
        "upload_files: `src` is a URL known only after execution: download it with `run_sh`, and `store` it"
    )


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.txt", "b.txt"),
        ("http://h/a/b.txt?x=/y#z", "b.txt"),
        ("http://h/a%20b", "a b"),
        ("http://h/a/", "a"),
        ("http://h", "download"),
        ("http://h/", "download"),
        ("http://h/a/..", "download"),
        ("http://h/a%2f..%2f..%2fb", "b"),
        ("http://h/%00", "download"),
        (f"http://h/{'a' * 256}", "download"),
    ],
)
def test_files_are_named_as_the_url_ends(url: str, name: str):
    assert file_name(url) == name


def test_a_url_is_shown_without_name_and_password():
    assert shown("https://me:pw@host:8443/a?b#c") == "https://host:8443/a?b#c"


def test_a_real_service_has_the_file_of_the_web(real: Laboratory, web: Web):
    plan = (
        upload(web) + 'plan.add_service("s", ServiceConfig(image = "enclave-test/busybox:local", '
        'cmd = ["sleep", "1000000"], files = {"/conf": f}))\n'
        'return plan.exec("s", ExecRecipe(command = ["cat", "/conf/app.conf"]))["output"]'
    )
    assert real.ok(plan).output == "one"
    assert real.outcomes(plan) == ["updated", "skipped", "skipped"]
    web.pages["/files/app.conf"] = Page(b"two", headers={"ETag": '"2"'})
    assert real.ok(plan).output == "two"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-x\r\n", "the server's answer is no HTTP (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "the server's answer is no HTTP"),
    ],
)
def test_what_does_not_speak_http_is_told(tmp_path: Path, answer: bytes, told: str):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/f"
        with pytest.raises(ExecutionError) as caught:
            download(url, tmp_path, State(), None)
        thread.join()
    assert str(caught.value).startswith(f"cannot download {url}: {told}")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "[::ffff:127.0.0.1]"]
)
def test_a_package_that_was_fetched_may_not_ask_this_machine(tmp_path: Path, host: str):
    with pytest.raises(ExecutionError) as caught:
        download(f"http://{host}:1/f", tmp_path, State(), None, trusted=False)
    assert "is this machine, which a package that was fetched may not ask" in str(caught.value)


def test_nor_may_it_be_led_there(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch):
    web.pages["/away"] = Page(status=302, headers={"Location": "/files/app.conf"})
    seen = []
    monkeypatch.setattr(downloading, "_refuse_this_machine", seen.append)
    download(f"{web.url}/away", tmp_path, State(), None, trusted=False)
    assert seen == [f"{web.url}/away", f"{web.url}/files/app.conf"]


ONLY = "and only http:// and https:// are downloaded"


@pytest.mark.parametrize(
    ("src", "told"),
    [
        ("htp://h/x", f'is "htp://h/x", {ONLY}; did you mean `http://h/x`?'),
        ("htps://h/x", f'is "htps://h/x", {ONLY}; did you mean `https://h/x`?'),
        ("ftp://h/x", f'is "ftp://h/x", {ONLY}; did you mean `http://h/x`?'),
        ("ftp://me:sesame@h/x@y", f'is "ftp://h/x@y", {ONLY}; did you mean `http://h/x@y`?'),
        ("FILE:///x", f'is "FILE:///x", {ONLY}: a file of the package is named by its path alone'),
    ],
)
def test_by_other_schemes_nothing_is_downloaded(lab: Laboratory, src: str, told: str):
    error = lab.error(f'plan.upload_files("{src}")')
    assert isinstance(error, InterpretationError)
    assert error.message == f"upload_files: `src` {told}"


def test_a_locator_with_a_scheme_is_told_as_such(lab: Laboratory):
    error = lab.error('plan.upload_files("git://github.com/a/b")')
    assert "has a scheme: locators are written without one" in error.message
    assert error.remedy == "write `github.com/a/b`"
