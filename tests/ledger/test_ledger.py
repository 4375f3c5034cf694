"""Who has which enclave, and what becomes of those whose sessions are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pytest_enclave.errors import EnclaveError
from pytest_enclave.ledger import entry as entries
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import YOUNGEST, Ledger
from pytest_enclave.ledger.session import Session

OTHER_SESSION = """
import sys
sys.path[:] = sys.argv[3:]
from pathlib import Path
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
session = ledger.begin_session()
home = ledger.enter(Entry("other", "docker", session.id, 1.0, key=sys.argv[2], ready=True))
print(session.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def session(ledger: Ledger) -> Iterator[Session]:
    begun = ledger.begin_session()
    yield begun
    begun.end()


@pytest.fixture
def other(ledger: Ledger) -> Iterator[subprocess.Popen[str]]:
    """Another process with a session and its enclave `other`, for the key `k`."""
    command = [sys.executable, "-c", OTHER_SESSION, str(ledger.root), "k", *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def entry(session: Session, name: str = "shop", **fields: object) -> Entry:
    return Entry(name, "docker", session.id, time.time(), ready=True, **fields)  # type: ignore[arg-type]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def test_it_is_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ledger.of({"HOME": "/home/ann"}).root == Path("/home/ann/.local/state/pytest-enclave")
    assert Ledger.of({"HOME": "/home/ann", "XDG_STATE_HOME": "/state"}).root == Path("/state/pytest-enclave")
    assert Ledger.of({"HOME": "/home/ann", "XDG_STATE_HOME": "relative"}).root.is_relative_to("/home/ann")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(EnclaveError, match="this user has no home directory") as raised:
        Ledger.of({})
    assert raised.value.remedy == "set XDG_STATE_HOME to the path of a directory that can be written"


@pytest.mark.parametrize("at", ["write", "rename"])
def test_an_interrupt_while_a_home_is_made_leaves_none(
    ledger: Ledger, session: Session, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    real = Path.rename

    def interrupted(*arguments: Path) -> None:
        if at == "rename":
            real(*arguments)
        raise KeyboardInterrupt

    where = {"write": (entries, "write"), "rename": (Path, "rename")}[at]
    with monkeypatch.context() as patched:
        patched.setattr(*where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.enter(entry(session))
    assert list((ledger.root / "enclaves").iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnclaveError, match=r"enclaves cannot be recorded in .*/file/ledger: Not a directory") as raised:
        Ledger(tmp_path / "file" / "ledger").begin_session()
    assert raised.value.remedy == "set XDG_STATE_HOME to the path of a directory that can be written"


def test_an_enclave_is_found_with_all_that_was_said_of_it(ledger: Ledger, session: Session) -> None:
    made = entry(session, key="k", package="packages/shop", endpoint="unix:///run/docker.sock")
    home = ledger.enter(made)
    assert ledger.entries() == [made]
    assert home.path.stat().st_mode & 0o777 == 0o700
    ledger.change("shop", kept_until=5.0)
    assert ledger.entries() == [replace(made, kept_until=5.0)]
    ledger.forget(home)
    assert ledger.entries() == []
    ledger.change("shop", kept_until=6.0)
    assert ledger.entries() == [], "what is gone stays gone"


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[]", "is of another version, or of something else"),
        ('{"name": "shop", "of": "another version"}', "is of another version, or of something else"),
        ('{"name": "shop", "engine": "docker", "session": "s", "created": "now"}', "has 'now' as `created`"),
        ('{"name": "shop", "engine": null, "session": "s", "created": 1}', "has None as `engine`"),
        ('{"name": "other", "engine": "docker", "session": "s", "created": 1}', "is that of other"),
    ],
)
def test_of_a_damaged_entry_is_known_what_it_was_at_first(
    ledger: Ledger, session: Session, content: str, damage: str
) -> None:
    made = entry(session, key="k", endpoint="unix:///run/docker.sock")
    ledger.enter(made).leave()
    ledger.change("shop", ready=True)
    (ledger.path("shop") / "entry.json").write_bytes(content.encode(errors="surrogateescape"))
    assert ledger.entries() == [replace(made, damage=damage)]
    assert ledger.entry("shop") == replace(made, damage=damage)
    assert ledger.claim("k", session, kept=True) is None, "nobody gets it"


def test_what_a_later_version_says_besides_is_no_damage(ledger: Ledger, session: Session) -> None:
    ledger.enter(made := entry(session)).leave()
    path = ledger.path("shop") / "entry.json"
    path.write_text(path.read_text().replace("{", '{"colour": "red", ', 1))
    assert ledger.entries() == [made]


def test_an_entry_that_is_gone_or_cannot_be_read_is_damaged_too(ledger: Ledger, session: Session) -> None:
    made = entry(session)
    ledger.enter(made).leave()
    path = ledger.path("shop") / "entry.json"
    path.unlink()
    assert ledger.entries() == [replace(made, damage="is gone")]
    path.mkdir()
    assert ledger.entries() == [replace(made, damage="cannot be read: Is a directory")]


def test_what_is_damaged_altogether_is_told_all_the_same(ledger: Ledger, session: Session) -> None:
    ledger.enter(entry(session)).leave()
    for name in ("entry.json", "made.json"):
        (ledger.path("shop") / name).write_text("{")
    made = ledger.path("shop").stat().st_mtime
    assert ledger.entries() == [Entry("shop", "", "", made, damage="is not JSON")]
    ledger.change("shop", kept_until=5.0)
    assert ledger.entries() == [Entry("shop", "", "", made, damage="is not JSON")], (
        "it does not become one that is kept"
    )


def test_a_damaged_one_is_swept_on_its_engine_when_nobody_uses_it(ledger: Ledger, session: Session) -> None:
    removed = []

    def sweep(engine: str) -> list[str]:
        ledger.sweep(lambda each: each.engine == engine, lambda each: not removed.append(each.name))
        return removed

    home = ledger.enter(entry(session))
    for content in ("", "{"):
        (home.path / "entry.json").write_text(content)
    assert sweep("docker") == [], "its lease is held"
    home.leave()
    assert sweep("embedded") == []
    assert sweep("docker") == ["shop"]
    assert ledger.entries() == []


def test_it_is_the_users_alone_whatever_they_let_others_do(ledger: Ledger, session: Session) -> None:
    ledger.root.chmod(0o777)
    ledger.enter(entry(session))
    assert ledger.root.stat().st_mode & 0o777 == 0o700


# who is alive


def test_what_is_given_back_is_not_held_by_forks_of_the_process(ledger: Ledger, session: Session) -> None:
    home = ledger.enter(own := entry(session))
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        assert ledger.is_alive(own)
        home.leave()
        assert not ledger.is_alive(own)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_fork_gives_nothing_back_that_is_its_parents(ledger: Ledger, session: Session) -> None:
    home = ledger.enter(own := entry(session))
    child = os.fork()
    if child == 0:
        home.leave()
        os._exit(0)
    os.waitpid(child, 0)
    assert ledger.is_alive(own)


def test_an_enclave_of_one_test_lives_while_its_process_uses_it(ledger: Ledger, session: Session) -> None:
    home = ledger.enter(own := entry(session))
    assert ledger.is_alive(own)
    home.leave()
    assert not ledger.is_alive(own)


def test_a_shared_one_lives_as_long_as_its_session(ledger: Ledger, session: Session) -> None:
    ledger.enter(shared := entry(session, key="k")).leave()
    assert ledger.is_alive(shared)
    session.end()
    assert not ledger.is_alive(shared)


def test_a_kept_one_lives_until_then(ledger: Ledger, session: Session) -> None:
    ledger.enter(entry(session)).leave()
    assert ledger.is_alive(replace(entry(session), kept_until=time.time() + 60))
    assert not ledger.is_alive(replace(entry(session), kept_until=time.time() - 1))


def test_a_session_that_is_killed_is_known_to_be_dead_at_once(
    ledger: Ledger, other: subprocess.Popen[str], session: Session
) -> None:
    (theirs,) = ledger.entries()
    assert ledger.is_alive(theirs)
    assert ledger.lives(theirs.session)
    kill(other)
    assert not ledger.lives(theirs.session)
    assert not ledger.is_alive(theirs)
    ledger.begin_session().end()
    assert theirs.session not in os.listdir(ledger.root / "sessions"), (
        "what it was locked by goes with the next session"
    )
    assert session.id in os.listdir(ledger.root / "sessions")


# who gets it


def test_processes_of_one_session_share_the_enclave_of_a_key(ledger: Ledger, session: Session) -> None:
    ledger.enter(made := entry(session, key="k"))
    worker = Session(session.id, session.holder, None)
    claimed = ledger.claim("k", worker, kept=False)
    assert claimed is not None
    assert claimed.entry == replace(made, holder=session.holder)
    assert claimed.home.lease.is_held
    assert not claimed.was_kept
    assert ledger.claim("another", worker, kept=True) is None


def test_one_that_is_still_being_made_is_nobodys_yet(ledger: Ledger, session: Session) -> None:
    ledger.enter(replace(entry(session, key="k"), ready=False))
    assert ledger.claim("k", session, kept=True) is None
    ledger.change("shop", ready=True)
    assert ledger.claim("k", session, kept=True) is not None


def test_what_another_session_uses_is_not_to_be_had(
    ledger: Ledger, session: Session, other: subprocess.Popen[str]
) -> None:
    assert ledger.claim("k", session, kept=True) is None
    kill(other)
    assert ledger.claim("k", session, kept=True) is None, "nor is what it did not keep"


def test_what_was_kept_belongs_to_the_next_session_that_asks(
    ledger: Ledger, session: Session, other: subprocess.Popen[str]
) -> None:
    ledger.change("other", kept_until=time.time() + 60)
    assert ledger.claim("k", session, kept=True) is None, "its session has not ended yet"
    kill(other)
    assert ledger.claim("k", session, kept=False) is None
    claimed = ledger.claim("k", session, kept=True)
    assert claimed is not None
    assert claimed.was_kept
    assert (claimed.entry.session, claimed.entry.kept_until) == (session.id, None)
    assert ledger.entries() == [claimed.entry]
    third = ledger.begin_session()
    assert ledger.claim("k", third, kept=True) is None
    third.end()


def test_what_was_kept_for_too_long_is_not_taken_over(
    ledger: Ledger, session: Session, other: subprocess.Popen[str]
) -> None:
    ledger.change("other", kept_until=time.time() - 1)
    kill(other)
    assert ledger.claim("k", session, kept=True) is None


# what is removed


def test_a_sweep_removes_what_is_not_alive_and_nothing_else(
    ledger: Ledger, session: Session, other: subprocess.Popen[str]
) -> None:
    ledger.enter(entry(session, "dead")).leave()
    ledger.enter(entry(session, "in use"))
    ledger.enter(entry(session, "kept")).leave()
    ledger.change("kept", kept_until=time.time() + 60)
    ledger.enter(replace(entry(session, "elsewhere"), engine="embedded")).leave()
    removed: list[str] = []

    def remove(gone: Entry) -> bool:
        removed.append(gone.name)
        return True

    ledger.sweep(lambda each: each.engine == "docker", remove)
    assert removed == ["dead"]
    kill(other)
    ledger.sweep(lambda each: each.engine == "docker", remove)
    assert removed == ["dead", "other"]
    assert [each.name for each in ledger.entries()] == ["in use", "kept", "elsewhere"]


def test_what_is_kept_while_a_sweep_is_at_another_one_stays(ledger: Ledger, session: Session) -> None:
    for name in ("first", "second"):
        ledger.enter(entry(session, name)).leave()

    def remove(gone: Entry) -> bool:
        ledger.change("second", kept_until=time.time() + 60)
        return True

    ledger.sweep(lambda _: True, remove)
    assert [each.name for each in ledger.entries()] == ["second"]


def test_a_look_at_who_uses_an_enclave_keeps_nobody_from_claiming_it(ledger: Ledger, session: Session) -> None:
    home = ledger.enter(made := entry(session, key="k"))
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            ledger.is_alive(replace(made, key=""))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(300):
            home.leave()
            claimed = ledger.claim("k", session, kept=False)
            assert claimed is not None
            home = claimed.home
    finally:
        stop.set()
        looking.join()


def test_what_cannot_be_removed_stays_for_the_next_sweep(ledger: Ledger, session: Session) -> None:
    ledger.enter(entry(session)).leave()
    ledger.sweep(lambda _: True, lambda _: False)
    assert [each.name for each in ledger.entries()] == ["shop"]
    ledger.sweep(lambda _: True, lambda _: True)
    assert ledger.entries() == []


def test_while_somebody_removes_it_nobody_else_does(ledger: Ledger, session: Session) -> None:
    ledger.enter(gone := entry(session)).leave()
    condemned = ledger.condemn(gone)
    assert condemned is not None
    assert ledger.condemn(gone) is None
    condemned.leave()
    assert ledger.condemn(gone) is not None


def test_a_kept_one_is_removed_where_it_is_asked_for_unless_somebody_uses_it(ledger: Ledger, session: Session) -> None:
    home = ledger.enter(kept := replace(entry(session), kept_until=time.time() + 60))
    assert ledger.condemn(kept, alive=True) is None
    home.leave()
    assert ledger.condemn(kept) is None
    assert ledger.condemn(kept, alive=True) is not None


def test_homes_that_were_never_finished_go_when_they_are_old(ledger: Ledger, session: Session) -> None:
    ledger.enter(entry(session))
    old, young = (ledger.root / "enclaves" / name for name in (".begun", "removed-half"))
    for path in (old, young):
        path.mkdir()
    then = time.time() - YOUNGEST - 1
    os.utime(old, (then, then))
    ledger.sweep(lambda _: False, lambda _: True)
    assert sorted(os.listdir(ledger.root / "enclaves")) == ["removed-half", "shop"]


def test_one_process_at_a_time_makes_the_enclave_of_a_key(ledger: Ledger, tmp_path: Path) -> None:
    program = (
        "import sys, time; sys.path[:] = sys.argv[2:]\n"
        "from pathlib import Path; from pytest_enclave.ledger.ledger import Ledger\n"
        "with Ledger(Path(sys.argv[1])).making('k'):\n"
        "    print('in', flush=True); time.sleep(0.05); print('out', flush=True)\n"
    )
    with (tmp_path / "told").open("w") as told:
        makers = [
            subprocess.Popen([sys.executable, "-c", program, str(ledger.root), *sys.path], stdout=told)
            for _ in range(4)
        ]
        assert [maker.wait() for maker in makers] == [0] * 4
    assert (tmp_path / "told").read_text().split() == ["in", "out"] * 4


# locks of keys


def keys(ledger: Ledger) -> int:
    return len(os.listdir(ledger.root / "keys"))


def test_locks_of_keys_go_when_nobody_makes_anything(ledger: Ledger) -> None:
    for key in "abc":
        with ledger.making(key):
            pass
    assert keys(ledger) == 3
    with ledger.making("d"):
        ledger.begin_session().end()
        assert keys(ledger) == 4, "d is locked, and somebody may just be coming for the others"
    ledger.begin_session().end()
    assert keys(ledger) == 0
    with ledger.making("a"):
        pass
    ledger.sweep(lambda _: False, lambda _: False)
    assert keys(ledger) == 0


def test_one_at_a_time_makes_also_while_locks_are_removed(ledger: Ledger, tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.path[:] = sys.argv[2:]\n"
        "from pathlib import Path; from pytest_enclave.ledger.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for _ in range(60):\n"
        "    with ledger.making('k'):\n"
        "        os.mkdir(ledger.root / 'alone'); os.rmdir(ledger.root / 'alone')\n"
        "    ledger.sweep(lambda _: False, lambda _: False)\n"
    )
    makers = [subprocess.Popen([sys.executable, "-c", program, str(ledger.root), *sys.path]) for _ in range(4)]
    assert [maker.wait() for maker in makers] == [0] * 4


# of sessions


def test_what_is_of_a_session_is_found_also_when_it_is_kept(ledger: Ledger, session: Session) -> None:
    other = ledger.begin_session()
    ledger.enter(entry(session, "one")).leave()
    ledger.enter(entry(session, "two", kept_until=time.time() + 60)).leave()
    ledger.enter(entry(other, "three")).leave()
    assert [each.name for each in ledger.of_session(session.id)] == ["one", "two"]
    other.end()
