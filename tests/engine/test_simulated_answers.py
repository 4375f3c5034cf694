"""What simulated services answer to commands and requests, and when."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import (
    Action,
    DeadlineExceeded,
    EnclaveId,
    ExecResult,
    Exit,
    HttpRequest,
    HttpResponse,
    NotReached,
    ServiceSpec,
)
from pytest_enclave.engine.simulated import Call, Script, SimulatedEngine, SimulatedSite, Timing
from pytest_enclave.plan.service import PortSpec

HTTP = PortSpec(80)
HEALTH = HttpRequest("GET", "/health")


def started(script: Script | None = None, **artifacts: Path) -> SimulatedSite:
    """An enclave in which `api` has just started, at 0.3; each artifact is mounted at `/NAME`."""
    site = SimulatedEngine(script).open(EnclaveId("test"))
    files = {f"/{name}": name for name in artifacts}
    spec = ServiceSpec("api", "nginx", site.reserve("api"), ports={"http": HTTP}, files=files)
    assert site.start([spec], artifacts, 1) == {"api": None}
    return site


def now(site: SimulatedSite) -> float:
    site.observe()
    return site.calls[-1].at


def test_an_unknown_command_succeeds_silently_in_the_usual_time() -> None:
    site = started()
    assert site.exec("api", ["migrate"], None) == ExecResult(0, "")
    assert now(site) == 0.35


def test_an_unknown_request_gives_an_empty_200_in_the_usual_time() -> None:
    site = started()
    assert site.request("api", HTTP, HEALTH, None) == HttpResponse(200, {}, b"")
    assert now(site) == 0.31


def test_the_usual_times_can_be_told() -> None:
    site = started(Script().timing(Timing(start=1.0, exec=2.0, request=4.0)))
    site.exec("api", ["x"], None)
    site.request("api", HTTP, HEALTH, None)
    assert now(site) == 7.0


def test_the_nth_call_gets_the_nth_answer_and_the_last_one_repeats() -> None:
    answers = [ExecResult(1, "no"), NotReached("gone"), ExecResult(0, "yes")]
    site = started(Script().on_exec("api", ["ready"], answers))
    assert site.exec("api", ["ready"], None) == ExecResult(1, "no")
    with pytest.raises(NotReached, match="gone"):
        site.exec("api", ["ready"], None)
    assert [site.exec("api", ["ready"], None).output for _ in range(3)] == ["yes"] * 3


def test_requests_are_answered_by_sequences_and_callables_too() -> None:
    def slow(request: HttpRequest, at: float) -> HttpResponse:
        return HttpResponse(418, {}, f"{request.endpoint} at {at}".encode())

    site = started(Script().on_request("api", "/health", [NotReached("too early"), slow]))
    with pytest.raises(NotReached, match="too early"):
        site.request("api", HTTP, HEALTH, None)
    assert site.request("api", HTTP, HEALTH, None) == HttpResponse(418, {}, b"/health at 0.31")


def test_a_callable_is_given_the_command_and_the_time_it_was_asked() -> None:
    site = started(Script().on_exec("api", None, lambda command, at: ExecResult(len(command), str(at)), takes=2.0))
    assert site.exec("api", ["a", "b"], None) == ExecResult(2, "0.3")
    assert now(site) == 2.3


def test_each_enclave_counts_its_own_calls() -> None:
    engine = SimulatedEngine(Script().on_exec("api", None, [ExecResult(1, ""), ExecResult(0, "")]))
    for name in ("one", "two"):
        site = engine.open(EnclaveId(name))
        site.start([ServiceSpec("api", "nginx", site.reserve("api"))], {}, 1)
        assert [site.exec("api", ["x"], None).code for _ in range(2)] == [1, 0]


def test_what_takes_longer_than_the_deadline_ends_at_the_deadline() -> None:
    script = Script().on_exec("api", None, ExecResult(0, ""), takes=40.0)
    site = started(script.on_request("api", None, HttpResponse(200, {}, b""), takes=40.0))
    with pytest.raises(DeadlineExceeded):
        site.exec("api", ["slow"], 10.0)
    assert now(site) == 10.0
    with pytest.raises(DeadlineExceeded):
        site.request("api", HTTP, HEALTH, 20.0)
    assert now(site) == 20.0


def test_what_is_done_just_at_the_deadline_is_done() -> None:
    site = started()
    assert site.exec("api", ["x"], 0.35) == ExecResult(0, "")


def test_a_deadline_that_is_over_takes_no_time() -> None:
    site = started()
    with pytest.raises(DeadlineExceeded):
        site.exec("api", ["x"], 0.1)
    assert now(site) == 0.3


def test_a_call_that_met_its_deadline_counts_as_one() -> None:
    site = started(Script().on_exec("api", None, [ExecResult(1, ""), ExecResult(0, "")], takes=1.0))
    with pytest.raises(DeadlineExceeded):
        site.exec("api", ["x"], 0.5)
    assert site.exec("api", ["x"], None).code == 0


def test_a_command_is_killed_with_its_service() -> None:
    site = started(Script().service("api", exits_after=5.0, exits_with=Exit(1)))
    assert site.exec("api", ["sleep", "30"], None) == ExecResult(137, "")
    assert now(site) == 5.3
    assert site.exit_of("api") == Exit(1)


def test_a_request_breaks_with_its_service() -> None:
    script = Script().service("api", exits_after=5.0)
    site = started(script.on_request("api", None, HttpResponse(200, {}, b""), takes=9.0))
    with pytest.raises(NotReached, match="reset"):
        site.request("api", HTTP, HEALTH, 60.0)
    assert now(site) == 5.3


def test_a_paused_service_accepts_but_does_not_answer() -> None:
    site = started()
    site.act("api", Action.PAUSE)
    assert site.accepts("api", HTTP)
    with pytest.raises(DeadlineExceeded):
        site.request("api", HTTP, HEALTH, 4.0)
    assert now(site) == 4.0
    for ask in (
        lambda: site.request("api", HTTP, HEALTH, None),
        lambda: site.exec("api", ["true"], None),
    ):
        with pytest.raises(NotReached, match="paused"):
            ask()


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (["echo", "a", "b"], ExecResult(0, "a b\n")),
        (["echo", "-n", "a"], ExecResult(0, "a")),
        (["true"], ExecResult(0, "")),
        (["false"], ExecResult(1, "")),
        (["sh", "-c", "echo 'a  b' c"], ExecResult(0, "a  b c\n")),
        (["/bin/sh", "-c", "false"], ExecResult(1, "")),
        (["sleep", "soon"], ExecResult(1, "sleep: invalid time interval 'soon'\n")),
        (["sh", "-c", "echo a && false"], ExecResult(0, "")),
        (["sh", "-c", "echo $HOME"], ExecResult(0, "")),
        (["sh", "-c", "echo 'a"], ExecResult(0, "")),
        (["sh", "-c", ""], ExecResult(0, "")),
        (["cat"], ExecResult(0, "")),
        ([], ExecResult(0, "")),
    ],
)
def test_a_few_commands_are_understood_without_a_script(command: list[str], result: ExecResult) -> None:
    assert started().exec("api", command, None) == result


def test_sleep_takes_its_time_beyond_the_usual() -> None:
    site = started()
    assert site.exec("api", ["sh", "-c", "sleep 2.5"], None) == ExecResult(0, "")
    assert now(site) == pytest.approx(2.85)
    with pytest.raises(DeadlineExceeded):
        site.exec("api", ["sleep", "30"], 5.0)
    assert now(site) == 5.0


def test_a_script_comes_before_the_commands_understood_without_one() -> None:
    site = started(Script().on_exec("api", ["true"], ExecResult(7, "")))
    assert site.exec("api", ["true"], None).code == 7


def test_cat_shows_mounted_and_scripted_files(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "app.toml").write_text("port = 80\n", encoding="utf-8")
    site = started(Script().service("api", files={"/etc/motd": "hello\n"}), config=tmp_path)
    both = ["cat", "/config/conf/app.toml", "/etc/motd"]
    assert site.exec("api", both, None) == ExecResult(0, "port = 80\nhello\n")
    assert site.exec("api", ["cat", "/etc/none", "/etc/motd"], None) == ExecResult(
        1, "cat: /etc/none: No such file or directory\nhello\n"
    )
    for directory in ("/config/conf", "/etc", "/"):
        assert site.exec("api", ["cat", directory], None).output == f"cat: {directory}: Is a directory\n"


def test_a_link_out_of_an_artifact_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret", encoding="utf-8")
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "out").symlink_to("../secret")
    site = started(config=artifact)
    assert site.exec("api", ["cat", "/config/out"], None).code == 1
    assert set(unpacked(site, "/config")) == {"config"}


def unpacked(site: SimulatedSite, path: str) -> dict[str, bytes | None]:
    """The members of what `read` gives: content, or None for a directory."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(site.read("api", path)))) as archive:
        members = [(member.name, archive.extractfile(member)) for member in archive]
        return {name: None if opened is None else opened.read() for name, opened in members}


def test_files_and_directories_are_read_under_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "app.toml").write_text("port = 80\n", encoding="utf-8")
    big = b"x" * 100_000
    site = started(Script().service("api", files={"/config/big": big}), config=tmp_path)
    assert unpacked(site, "/config/conf/app.toml") == {"app.toml": b"port = 80\n"}
    everything = {
        "config": None,
        "config/big": big,
        "config/conf": None,
        "config/conf/app.toml": b"port = 80\n",
    }
    assert unpacked(site, "/config") == everything
    assert unpacked(site, "/") == everything


def test_reading_twice_gives_the_same_bytes_also_from_a_stopped_service(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a", encoding="utf-8")
    site = started(config=tmp_path)
    before = b"".join(site.read("api", "/config"))
    site.act("api", Action.STOP)
    (tmp_path / "a").touch()
    assert b"".join(site.read("api", "/config")) == before


def test_reading_what_is_not_there_fails_at_once() -> None:
    site = started()
    with pytest.raises(NotReached, match="no such file or directory: /data"):
        site.read("api", "/data")
    with pytest.raises(NotReached, match="there is no service `db`"):
        site.read("db", "/data")


def test_the_journal_tells_all_that_was_asked_and_when() -> None:
    site = started()
    site.exec("api", ["true"], 9.0)
    site.pause(1.0, watching="api")
    site.close()
    assert [(call.at, call.method) for call in site.calls] == [
        (0.0, "reserve"),
        (0.0, "start"),
        (0.3, "exec"),
        (0.35, "pause"),
        (1.35, "close"),
    ]
    assert site.calls[2] == Call(0.3, "exec", {"name": "api", "command": ("true",), "deadline": 9.0})
    assert site.asked("pause") == [{"seconds": 1.0, "watching": "api"}]
    assert [spec.name for spec in site.asked("start")[0]["specs"]] == ["api"]


def test_a_persistent_directory_begins_with_what_is_scripted_and_is_shared() -> None:
    script = (
        Script().service("db", files={"/data/deep/f": "of db", "/own": "db"}).service("api", files={"/d/f": "late"})
    )
    site = SimulatedEngine(script).open(EnclaveId("test"))

    def start(name: str, **directories: str) -> None:
        mounted = {f"/{path}": key for path, key in directories.items()}
        spec = ServiceSpec(name, "image", site.reserve(name), directories=mounted)
        assert site.start([spec], {}, 1) == {name: None}

    start("db", data="key", empty="other")
    start("api", d="key")
    for action in (Action.STOP, Action.START, Action.REMOVE):
        site.act("db", action)
    start("web", w="key", e="other")
    assert site.exec("web", ["cat", "/w/deep/f"], None) == ExecResult(0, "of db")
    assert site.exec("api", ["cat", "/d/f"], None).code == 1
    assert site.exec("web", ["cat", "/e"], None) == ExecResult(1, "cat: /e: Is a directory\n")
    assert names(site.read("web", "/w")) == ["w", "w/deep/f"]
    assert names(site.read("web", "/e")) == ["e"]
    site.freeze()
    fork = site.fork(EnclaveId("fork"))
    assert fork.exec("web", ["cat", "/w/deep/f"], None) == ExecResult(0, "of db")


def names(stream: Iterator[bytes]) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return archive.getnames()
