"""For whom an enclave is there: leases, the process that holds it, a moment until which it is kept; and its home."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.embedded.inside import tenure
from pytest_enclave.engine.embedded.inside.leftovers import is_abandoned
from pytest_enclave.engine.embedded.inside.tenure import Tenure
from pytest_enclave.engine.embedded.site import EmbeddedSite
from pytest_enclave.engine.protocol import EnclaveId
from pytest_enclave.errors import EngineError
from tests.engine.enclave_processes import Processes, kill, lives
from tests.engine.engine_enclave import Enclave, enclave_id
from tests.engine.lease_processes import Holder, assert_gone, assert_stays, directory, processes


@pytest.fixture
def engine() -> Iterator[EmbeddedEngine]:
    """The embedded engine alone."""
    engine = EmbeddedEngine()
    yield engine
    assert engine.close() == []


@pytest.fixture
def id_(tmp_path: Path) -> EnclaveId:
    """An enclave with a home, which is there for this process."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "lease").touch()
    (home / "journal.sqlite").touch()
    return EnclaveId(enclave_id().name, str(home))


@pytest.fixture
def holder() -> Iterator[Callable[[str, EnclaveId], Holder]]:
    """Starts further processes."""
    started: list[Holder] = []

    def start(how: str, id_: EnclaveId) -> Holder:
        started.append(Holder(how, id_))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def attached(engine: EmbeddedEngine) -> Iterator[Callable[[EnclaveId], EmbeddedSite]]:
    """Joins enclaves, and removes them in the end."""
    ids: list[EnclaveId] = []
    sites: list[EmbeddedSite] = []

    def attach(id_: EnclaveId) -> EmbeddedSite:
        ids.append(id_)
        sites.append(engine.attach(id_))
        return sites[-1]

    yield attach
    for site in sites:
        site.leave()
    assert [leak for id_ in ids for leak in engine.remove(id_)] == []


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, to be there for."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def held_by(id_: EnclaveId, process: int) -> EnclaveId:
    """The same enclave, for another process."""
    return EnclaveId(id_.name, id_.home, process)


# the holder


def test_an_enclave_stays_for_its_holder_when_the_worker_that_made_it_is_killed(
    holder: Callable[[str, EnclaveId], Holder],
    attached: Callable[[EnclaveId], EmbeddedSite],
    id_: EnclaveId,
):
    worker = holder("open", held_by(id_, os.getpid()))
    worker.kill()
    assert_stays(id_)
    site = attached(id_)
    assert Enclave(site, id_).sh(worker.service, "hostname") == worker.service


def test_with_its_holder_it_goes_when_nobody_uses_it(
    holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId, sleeper: subprocess.Popen[bytes]
):
    worker = holder("open", held_by(id_, sleeper.pid))
    other = holder("attach", held_by(id_, sleeper.pid))
    worker.kill()
    sleeper.kill()
    assert_stays(id_)
    assert other.ask("see").split() == sorted([worker.service, other.service])
    other.kill()
    assert_gone(id_)


def test_who_leaves_leaves_it_to_the_holder(engine: EmbeddedEngine, id_: EnclaveId, sleeper: subprocess.Popen[bytes]):
    site = engine.open(held_by(id_, sleeper.pid))
    Enclave(site, id_).up("a", "host:/")
    site.leave()
    assert_stays(id_)
    # A zombie holds nothing.
    os.kill(sleeper.pid, signal.SIGKILL)
    assert_gone(id_)


def test_whoever_attaches_says_who_the_next_holder_is(
    engine: EmbeddedEngine,
    attached: Callable[[EnclaveId], EmbeddedSite],
    id_: EnclaveId,
    sleeper: subprocess.Popen[bytes],
):
    engine.open(held_by(id_, sleeper.pid)).leave()
    attached(id_).leave()
    sleeper.kill()
    assert_stays(id_)


def test_one_who_has_ended_can_be_no_holder(engine: EmbeddedEngine, id_: EnclaveId):
    ended = subprocess.Popen(["true"])
    ended.wait()
    words = f"process {ended.pid}, which enclave {id_.name} was to be there for, has ended"
    with pytest.raises(EngineError, match=f"^cannot start enclave {id_.name}: {words}$"):
        engine.open(held_by(id_, ended.pid))
    assert not directory(id_).exists()
    site = engine.open(id_)
    with pytest.raises(EngineError, match=f"^{words}$"):
        engine.attach(held_by(id_, ended.pid))
    assert site.observe() == {}
    assert site.close() == []


def test_a_fork_of_a_process_is_no_client(
    holder: Callable[[str, EnclaveId], Holder], engine: EmbeddedEngine, id_: EnclaveId, sleeper: subprocess.Popen[bytes]
):
    engine.open(held_by(id_, sleeper.pid)).leave()
    other = holder("attach", held_by(id_, sleeper.pid))
    lingering = int(other.ask("linger"))
    try:
        sleeper.kill()
        assert_stays(id_)
        other.process.kill()
        assert_gone(id_)
        assert lives(lingering)
    finally:
        kill(lingering)


def test_closing_ends_it_for_the_holder_and_all_others(holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId):
    worker = holder("open", held_by(id_, os.getpid()))
    other = holder("attach", held_by(id_, os.getpid()))
    assert other.ask("close") == "[]"
    assert not directory(id_).exists()
    assert_gone(id_)
    worker.kill()
    # It is for those who have closed it to remove.
    assert Path(id_.home, "journal.sqlite").exists()


# kept enclaves


def test_what_is_kept_outlives_the_session_and_serves_the_next(
    holder: Callable[[str, EnclaveId], Holder], attached: Callable[[EnclaveId], EmbeddedSite], id_: EnclaveId
):
    first = holder("open", id_)
    assert first.ask("keep 60") == "None"
    first.kill()
    assert_stays(id_)
    os.utime(directory(id_), (0, 0))
    # Whoever only looks whether anybody listens does not end it.
    assert not is_abandoned(str(directory(id_)))
    second = holder("attach", id_)
    assert second.ask(f"run {first.service} hostname") == first.service
    # From then on it is kept no more.
    second.kill()
    assert_gone(id_)


def test_what_is_kept_goes_in_time(holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId):
    first = holder("open", id_)
    assert first.ask("keep 1.2") == "None"
    first.ask("leave")
    first.process.wait()
    assert_stays(id_, 0.6)
    assert_gone(id_)
    assert not Path(id_.home).exists()


def test_what_is_kept_stays_while_somebody_uses_it(
    engine: EmbeddedEngine, holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId
):
    first = holder("open", id_)
    other = engine.attach(id_)
    other.keep(time.time() + 0.3)
    first.kill()
    time.sleep(0.6)
    assert list(other.observe()) == [first.service]
    assert other.close() == []


def test_the_time_can_be_moved_and_is_over_at_once_if_it_has_passed(
    engine: EmbeddedEngine, id_: EnclaveId, sleeper: subprocess.Popen[bytes]
):
    site = engine.open(held_by(id_, sleeper.pid))
    site.keep(time.time() + 0.4)
    site.keep(time.time() + 60)
    site.leave()
    sleeper.kill()
    assert_stays(id_, 0.8)
    # Its holder is gone; the attached process is the next, and keeps it no longer than it wants.
    site = engine.attach(held_by(id_, os.getpid()))
    site.keep(time.time() - 1)
    site.leave()
    assert_stays(id_)
    assert engine.remove(id_) == []
    assert not directory(id_).exists()


def test_whoever_waits_for_the_end_of_a_sessions_output_does_not_wait_for_what_it_keeps(
    engine: EmbeddedEngine, id_: EnclaveId
):
    reader, writer = os.pipe()
    session = Holder("open", id_, stderr=writer)
    os.close(writer)
    assert session.ask("keep 60") == "None"
    session.ask("left")
    session.process.kill()
    # Both end only when nobody has them open any more.
    began = time.monotonic()
    session.process.communicate()
    assert os.read(reader, 1000) == b""
    os.close(reader)
    assert time.monotonic() - began < 5
    assert_stays(id_)
    assert engine.remove(id_) == []


def test_what_is_kept_has_nothing_of_the_session(engine: EmbeddedEngine, id_: EnclaveId, tmp_path: Path):
    file = (tmp_path / "of-the-session").open("w")
    session = Holder("open", id_)
    assert session.ask("keep 60") == "None"
    session.kill()
    file.close()
    assert_stays(id_)
    for process in processes(id_):
        status = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        assert int(status[4]) == 0  # no terminal
        assert os.getsid(process) != os.getsid(0)
        opened = [os.readlink(each) for each in Path(f"/proc/{process}/fd").iterdir()]
        assert not any(str(tmp_path / "of-the-session") in each for each in opened)
        assert os.readlink(f"/proc/{process}/cwd").startswith("/")
    assert engine.remove(id_) == []


def test_a_kept_enclave_is_found_by_its_home_alone(
    engine: EmbeddedEngine, holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId, tmp_path: Path
):
    first = holder("open", id_)
    first.ask("keep 60")
    first.kill()
    (tmp_path / "runtime").mkdir(mode=0o700)
    elsewhere = EmbeddedEngine({**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "runtime")})
    site = elsewhere.attach(id_)
    assert list(site.observe()) == [first.service]
    assert site.close() == []
    elsewhere.close()
    assert list((tmp_path / "runtime").iterdir()) == []


# removing


def test_anybody_can_remove_what_runs(
    engine: EmbeddedEngine, holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId
):
    first = holder("open", id_)
    first.send("wait")
    assert engine.remove(id_) == []
    assert first.read() == f"enclave {id_.name} has ended: another process has removed it"
    assert_gone(id_, 0.5)
    assert engine.remove(id_) == []
    assert sorted(os.listdir(id_.home)) == ["journal.sqlite", "lease"]


def test_there_is_nothing_to_remove_of_what_never_was(engine: EmbeddedEngine, id_: EnclaveId):
    assert engine.remove(id_) == []
    assert engine.remove(EnclaveId("never-was")) == []
    assert engine.remove(EnclaveId("never-was", "/nowhere/at/all")) == []


@pytest.mark.parametrize("storage", ["tmpfs", "disk"])
def test_what_a_killed_supervisor_has_left_is_removed(id_: EnclaveId, tmp_path: Path, storage: str):
    engine = EmbeddedEngine(storage=storage, store=tmp_path / "store" / "images")
    site = engine.open(id_)
    Enclave(site, id_).up("a", "host:/", max_memory=100)
    supervisor = Processes(engine).supervisor
    recorded = json.loads((directory(id_) / "remains").read_text())
    assert Path(recorded["files"][-1]).exists() == (storage == "disk")
    kill(supervisor)
    site.leave()
    # One that has another store, and knows nothing of the enclave but its home.
    other = EmbeddedEngine(store=tmp_path / "elsewhere" / "images")
    assert other.remove(id_) == []
    assert_gone(id_)
    assert not Path(recorded["files"][-1]).exists()
    if recorded["cgroups"]:
        assert not any(Path(parent, id_.name).exists() for parent in recorded["cgroups"]["parents"].values())
    assert sorted(os.listdir(id_.home)) == ["journal.sqlite", "lease"]
    other.close()
    engine.close()


def test_what_is_half_made_is_removed(engine: EmbeddedEngine, id_: EnclaveId):
    directory(id_).mkdir()
    assert engine.remove(id_) == []
    assert not directory(id_).exists()
    # One that somebody is making just now, and that will never be.
    directory(id_).mkdir()
    descriptor = os.open(directory(id_), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    release = subprocess.Popen(["sleep", "0.3"], pass_fds=[descriptor])
    os.close(descriptor)
    assert engine.remove(id_) == []
    assert release.wait() == 0
    assert not directory(id_).exists()


def test_what_is_being_opened_is_removed(engine: EmbeddedEngine, tmp_path: Path):
    for number in range(4):
        home = tmp_path / str(number)
        home.mkdir(mode=0o700)
        id_ = EnclaveId(f"{enclave_id().name}", str(home))
        opening = subprocess.Popen(
            [sys.executable, "-c", OPENING, id_.name, id_.home],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        while not directory(id_).exists():
            time.sleep(0.0005)
        time.sleep(number * 0.002)
        assert engine.remove(id_) == []
        assert not directory(id_).exists()
        opening.communicate(timeout=30)
        assert processes(id_) == []


OPENING = """
import sys
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import EnclaveId
EmbeddedEngine().open(EnclaveId(*sys.argv[1:])).pause(30)
"""


# attaching


def test_what_is_gone_cannot_be_attached_to(engine: EmbeddedEngine, id_: EnclaveId):
    with pytest.raises(EngineError, match=f"^there is no enclave {id_.name} any more: No such file or directory$"):
        engine.attach(id_)
    site = engine.open(id_)
    kill(Processes(engine).supervisor)
    while processes(id_):
        time.sleep(0.01)
    with pytest.raises(EngineError, match=f"^there is no enclave {id_.name} any more: Connection refused$"):
        engine.attach(id_)
    assert site.close() == []
    assert not directory(id_).exists()


def test_a_home_that_is_not_there_is_told(engine: EmbeddedEngine):
    id_ = EnclaveId(enclave_id().name, "/nowhere/home")
    words = "/nowhere/home, the enclave's home, is not there any more"
    with pytest.raises(EngineError, match=f"^cannot make enclave {id_.name}: {words}$"):
        engine.open(id_)


def test_a_long_way_to_the_home_does_no_harm(engine: EmbeddedEngine, tmp_path: Path):
    home = tmp_path / ("x" * 100) / ("y" * 100)
    home.mkdir(parents=True)
    id_ = EnclaveId(enclave_id().name, str(home))
    site = engine.open(id_)
    engine.attach(id_).leave()
    assert site.close() == []
    assert list(home.iterdir()) == []


# the home


def test_when_all_are_killed_the_home_goes_too(holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId):
    session = holder("open", id_)
    session.kill()
    assert_gone(id_)
    deadline = time.monotonic() + 2
    while Path(id_.home).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_home_that_somebody_uses_stays(holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId):
    with open(f"{id_.home}/lease") as lease:
        fcntl.flock(lease, fcntl.LOCK_SH)
        holder("open", id_).kill()
        assert_gone(id_)
        time.sleep(0.3)
        assert sorted(os.listdir(id_.home)) == ["journal.sqlite", "lease"]


def test_the_home_of_a_kept_enclave_whose_processes_are_killed_stays(
    holder: Callable[[str, EnclaveId], Holder], id_: EnclaveId
):
    session = holder("open", id_)
    session.ask("keep 60")
    session.kill()
    assert_stays(id_)
    init = next(each for each in processes(id_) if is_first(each))
    kill(init)
    assert_gone(id_)
    time.sleep(0.3)
    assert sorted(os.listdir(id_.home)) == ["journal.sqlite", "lease"]


def is_first(process: int) -> bool:
    """Whether it is the first process of a PID namespace, one below ours."""
    text = Path(f"/proc/{process}/status").read_text()
    numbers = next(line for line in text.splitlines() if line.startswith("NSpid:")).split()[1:]
    ours = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("NSpid:"))
    return numbers[-1] == "1" and len(numbers) == len(ours.split())


# time


class FakeLoop:
    """A loop that a test turns by hand."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.watch = self.watched.__setitem__
        self.forget = self.watched.pop
        self.after = lambda seconds, callback: self.due.append((seconds, callback))

    def turn(self) -> float:
        """Call back the next timer; its seconds."""
        seconds, callback = self.due.pop(0)
        callback()
        return seconds


def test_a_clock_that_jumps_is_noticed(monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(tenure.time, "time", lambda: now[0])
    loop, over = FakeLoop(), []
    holder = os.dup(0)
    kept = Tenure(loop, holder, lambda: False, lambda: over.append(now[0]))
    kept.keep(1100.0)
    loop.watched[holder]()
    assert loop.watched == {}
    assert loop.turn() == tenure.LOOK
    assert over == []
    # An earlier time is not missed.
    kept.keep(1010.0)
    assert [seconds for seconds, _ in loop.due] == [tenure.LOOK, 10.0]
    now[0] = 1005.0
    loop.turn()
    assert loop.turn() == 10.0
    assert over == []
    assert [seconds for seconds, _ in loop.due] == [5.0]
    now[0] = 1012.0
    loop.turn()
    assert over == [1012.0]
    assert loop.due == []


def test_what_has_another_holder_is_kept_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tenure.time, "time", lambda: 1000.0)
    loop, over = FakeLoop(), []
    kept = Tenure(loop, os.dup(0), lambda: False, lambda: over.append(1))
    kept.keep(1100.0)
    second = os.dup(0)
    kept.pass_to(second)
    assert list(loop.watched) == [second]
    kept.reconsider()
    assert over == []
    loop.watched[second]()
    assert over == [1]
    loop.turn()
    assert loop.due == []


def test_a_holder_counts_from_the_first_request_on():
    loop, over = FakeLoop(), []
    made = Tenure(loop, os.dup(0), lambda: False, lambda: over.append(1))
    made.reconsider()
    assert over == [1], "whoever opened it is gone, and may have been interrupted"
    made.begin()
    made.reconsider()
    assert over == [1]
    (holder,) = loop.watched
    loop.watched[holder]()
    assert over == [1, 1]
