"""Whatever happened to a journal's files: it opens with all that was written, or says in a sentence why it cannot."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pytest_enclave.store.aside import set_aside
from pytest_enclave.store.journal import SCHEMA_VERSION, Journal, JournalUnusable
from tests.store.records import RECORD

FILES = ("journal", "journal-wal", "journal-shm", "journal-seal")


def fill(journal: Journal) -> None:
    """Some of everything that a journal keeps."""
    for number in range(30):
        journal.append(replace(RECORD, message=f"number {number}", text="x" * 40 * number))
    journal.put({3: replace(RECORD, stale="db changed")})
    journal.put_artifacts({f"artifact {number}": f"{number:064}" for number in range(20)})
    journal.remember_failure("session", "slot", "gw1", b"\x00error" * 900)


def content(journal: Journal) -> tuple[Any, ...]:
    return dict(journal.records), journal.artifacts, journal.failure("session", "slot"), journal.interrupted


class Saved:
    """The files of a journal, and what it holds."""

    def __init__(self, directory: Path, holds: tuple[Any, ...]) -> None:
        self.directory, self.holds = directory, holds


@pytest.fixture(scope="module", params=["closed", "killed", "half started"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A journal that was closed, one whose process was killed, and one whose process was killed during a run."""
    live, copies = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("saved")
    journal = Journal(live / "journal")
    fill(journal)
    holds = content(journal)
    with journal.running() if request.param == "half started" else nullcontext():
        if request.param == "closed":
            journal.close()
        for file in live.iterdir():
            shutil.copy(file, copies / file.name)
    journal.close()
    return Saved(copies, (*holds[:-1], request.param == "half started"))


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Bytes changed, a tail cut off, a stretch of zeros, a page that has changed places, at places in files."""
    where, masks = st.floats(0, 1, exclude_max=True), st.integers(1, 255)
    one = st.one_of(
        st.tuples(st.just("flip"), st.lists(st.tuples(where, masks), min_size=1, max_size=4)),
        st.tuples(st.just("head"), st.lists(st.tuples(st.integers(0, 150), masks), min_size=1, max_size=2)),
        st.tuples(st.just("cut"), where),
        st.tuples(st.just("zero"), where, st.integers(1, 5000)),
        st.tuples(st.just("page"), where, where),
    )
    return draw(st.lists(st.tuples(st.sampled_from(FILES), one), min_size=1, max_size=3))


def damage(path: Path, how: tuple[Any, ...]) -> None:
    if not path.exists() or not (data := bytearray(path.read_bytes())):
        return
    match how:
        case ("flip", places):
            for where, mask in places:
                data[int(where * len(data))] ^= mask
        case ("head", places):
            for at, mask in places:
                data[at % len(data)] ^= mask
        case ("cut", where):
            del data[int(where * len(data)) :]
        case ("zero", where, count):
            at = int(where * len(data))
            data[at : at + count] = bytes(len(data[at : at + count]))
        case ("page", source, target):
            pages = max(len(data) // 4096, 1)
            a, b = int(source * pages) * 4096, int(target * pages) * 4096
            data[b : b + 4096] = data[a : a + 4096]
    path.write_bytes(data)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=damages())
def test_a_damaged_journal_opens_with_all_that_was_written_or_not_at_all(
    saved: Saved, tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[str, tuple[Any, ...]]]
):
    place = tmp_path_factory.mktemp("damaged")
    for file in saved.directory.iterdir():
        shutil.copy(file, place / file.name)
    for name, how in damages:
        damage(place / name, how)
    try:
        journal = Journal(place / "journal")
    except JournalUnusable as error:
        refusal = str(error)
    else:
        refusal = ""
        assert content(journal) == saved.holds
        if not journal.interrupted:
            journal.append(RECORD)
            journal.put_artifacts({"another": "0"})
            with journal.running():
                pass
        journal.close()
    assert re.fullmatch(r"(/.*/journal [a-z][^\n]*)?", refusal)
    shutil.rmtree(place)


def edit(path: Path, *statements: str) -> None:
    """Change a journal past everything that watches over it."""
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def refused(path: Path) -> str:
    """Why the journal at the path cannot be used."""
    with pytest.raises(JournalUnusable) as caught:
        Journal(path)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path} ")
    return str(caught.value).removeprefix(f"{path} ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with three records, closed."""
    journal = Journal(tmp_path / "journal")
    for _ in range(3):
        journal.append(RECORD)
    journal.put_artifacts({"f": "0" * 64})
    journal.remember_failure("session", "slot", "gw0", b"error")
    journal.close()
    return tmp_path / "journal"


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (SCHEMA_VERSION - 1, "was made by an older version of pytest-enclave"),
        (SCHEMA_VERSION + 1, "was made by a newer version of pytest-enclave"),
        (-1, "was made by an older version of pytest-enclave"),
    ],
)
def test_a_journal_of_another_version_is_refused(path: Path, version: int, reason: str):
    edit(path, f"PRAGMA user_version = {version}")
    assert refused(path) == reason


def test_what_the_first_version_wrote_is_refused_as_older_and_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "journal"
    edit(path, "CREATE TABLE records (position INTEGER PRIMARY KEY, body TEXT)", "PRAGMA user_version = 1")
    before = path.read_bytes()
    assert refused(path) == "was made by an older version of pytest-enclave"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE records SET body = '{}', checksum = 1", "is damaged: record 1 is not as it was written"),
        ("UPDATE records SET body = replace(body, 'db', 'da') WHERE position = 2",
         "is damaged: record 2 is not as it was written"),
        ("UPDATE artifacts SET digest = '1'", "is damaged: artifact is not as it was written"),
        ("UPDATE failures SET body = x'00'", "is damaged: failure is not as it was written"),
        ("UPDATE state SET running = 1", "is damaged: state is not as it was written"),
        ("DELETE FROM state", "is damaged: its state is missing"),
        ("DELETE FROM records WHERE position = 2", "is incomplete: it has 2 of 3 records"),
        ("DELETE FROM artifacts", "is incomplete: it has 0 of 1 artifacts"),
        ("DELETE FROM failures", "is incomplete: it has 0 of 1 failures"),
        ("DROP TABLE failures", "is damaged: its tables are not those of a journal"),
        ("CREATE TABLE more (a)", "is damaged: its tables are not those of a journal"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_was_written_is_told(path: Path, statement: str, reason: str):
    edit(path, statement)
    assert refused(path) == reason


@pytest.mark.parametrize(
    ("body", "why"),
    [("{}", "Missing required argument 'name'"), ("[]", "'list' object has no attribute"),
     ("{", "Expecting property name"), ("[" * 90000 + "]" * 90000, "maximum recursion depth exceeded")],
)  # fmt: skip
def test_a_record_that_does_not_decode_is_told(path: Path, monkeypatch: pytest.MonkeyPatch, body: str, why: str):
    with monkeypatch.context() as patched:
        patched.setattr("pytest_enclave.store.journal.encode", lambda record: body)
        journal = Journal(path)
        journal.append(RECORD)
        journal.close()
    assert refused(path).startswith(f"is damaged: record 4 is not a record of an executed instruction: {why}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no database at all" * 100, "is not a journal: file is not a database"),
        (b"{}", "is not a journal: file is not a database"),
        (b"", "is damaged: nothing is left in it"),
    ],
)
def test_a_file_that_is_no_database_is_told(path: Path, content: bytes, reason: str):
    path.write_bytes(content)
    assert refused(path) == reason


def test_a_database_of_something_else_is_told(tmp_path: Path):
    edit(tmp_path / "journal", "CREATE TABLE accounts (name TEXT)")
    assert refused(tmp_path / "journal") == "is not a journal: it has tables of something else"


def test_a_file_that_is_cut_off_is_told(path: Path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert refused(path) == "is damaged: database disk image is malformed"


def test_a_broken_page_is_told(path: Path):
    content = bytearray(path.read_bytes())
    content[4096:4104] = b"\xff" * 8
    path.write_bytes(content)
    assert refused(path).startswith("is damaged: ")


def test_writes_that_got_lost_with_the_log_are_told(tmp_path: Path):
    path, copy = tmp_path / "journal", tmp_path / "copy"
    copy.mkdir()
    journal = Journal(path)
    for _ in range(3):
        journal.append(RECORD)
    for file in FILES:
        shutil.copy(tmp_path / file, copy / file)
    journal.close()
    log = copy / "journal-wal"
    log.write_bytes(log.read_bytes()[:-4096])
    assert refused(copy / "journal") == "is incomplete: what was written last is missing"


@pytest.mark.parametrize("seal", [None, b"", b"\0" * 8, b"what is no seal"])
def test_a_seal_that_is_missing_or_damaged_is_told(path: Path, seal: bytes | None):
    place = path.with_name("journal-seal")
    place.unlink() if seal is None else place.write_bytes(seal)
    assert refused(path) == "is incomplete: its seal is missing or damaged"


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path):
    assert refused(tmp_path / "nowhere" / "journal") == "cannot be opened: unable to open database file"


def test_a_journal_that_was_refused_is_not_held_open(path: Path):
    edit(path, "PRAGMA user_version = 9")
    for _ in range(3):
        refused(path)
    assert not path.with_name("journal-wal").exists()


def test_a_beginning_that_was_cut_short_is_begun_again(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    journal.close()
    (tmp_path / "journal").write_bytes(b"")
    journal = Journal(tmp_path / "journal")
    journal.append(RECORD)
    journal.close()


def test_a_journal_that_got_damaged_while_it_is_open_is_told(path: Path):
    journal, other = Journal(path), Journal(path)
    edit(path, "DROP TABLE state")
    complaint = "is damaged: its tables|cannot be (read|written): no such table: state"
    for act in (journal.refresh, lambda: journal.append(RECORD), lambda: journal.interrupted):
        with pytest.raises(JournalUnusable, match=complaint):
            act()
    assert len(journal.records) == 3
    journal.close()
    other.close()


# Set aside


def test_a_journal_is_set_aside_with_all_its_files_under_a_name_that_tells_when_and_which(saved: Saved, tmp_path: Path):
    home = tmp_path / "shop-1a2b3c"
    shutil.copytree(saved.directory, home)
    before = {file.name: file.read_bytes() for file in home.iterdir()}
    aside = set_aside(home / "journal", tmp_path / "aside")
    assert re.fullmatch(r"20\d{6}T\d{6}-\d{9}-shop-1a2b3c\.sqlite", aside.name)
    assert {file.name.replace(aside.name, "journal"): file.read_bytes() for file in aside.parent.iterdir()} == before
    assert list(home.iterdir()) == []
    journal = Journal(aside)
    assert content(journal) == saved.holds
    journal.close()


def test_only_the_latest_five_stay_and_nothing_of_others_is_touched(tmp_path: Path):
    directory = tmp_path / "aside"
    directory.mkdir()
    (directory / "notes.sqlite").write_text("somebody's own")
    moved = []
    for number in range(8):
        home = tmp_path / f"e{number}"
        home.mkdir()
        Journal(home / "journal").close()
        moved.append(set_aside(home / "journal", directory))
    expected = [file.name for one in moved[-5:] for file in (one, one.with_name(one.name + "-seal"))]
    assert sorted(file.name for file in directory.iterdir()) == sorted([*expected, "notes.sqlite"])


@pytest.mark.parametrize("left", [[], ["journal-wal"], ["journal-seal"]])
def test_what_is_left_of_a_journal_can_be_set_aside(tmp_path: Path, left: list[str]):
    home = tmp_path / "home"
    home.mkdir()
    for name in left:
        (home / name).write_bytes(b"x")
    aside = set_aside(home / "journal", tmp_path / "aside")
    assert sorted(file.name.removeprefix(aside.name) for file in aside.parent.iterdir()) == [
        name.removeprefix("journal") for name in left
    ]


def test_a_new_journal_begins_where_one_was_set_aside(path: Path, tmp_path: Path):
    path.write_bytes(b"nonsense" * 200)
    refused(path)
    set_aside(path, tmp_path / "aside")
    journal = Journal(path)
    assert (dict(journal.records), journal.artifacts) == ({}, {})
    journal.close()
