"""The journal keeps records, artifacts, failures and whether a run goes on, exactly and for whoever opens it next."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pytest_enclave.instructions.registry import Registry
from pytest_enclave.plan.connections import Connection, Delay
from pytest_enclave.plan.footprint import Footprint, Replay, Wiring
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.values import Opaque, Struct
from pytest_enclave.source import Location
from pytest_enclave.store import codec
from pytest_enclave.store.codec import decode, encode
from pytest_enclave.store.journal import Failure, Journal, JournalUnusable
from tests.store.records import RECORD

TAGS = ("$struct", "$tuple", "$dict", "$set", "$of", "$member")

names = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TAGS)
numbers = st.integers() | st.floats(allow_nan=False) | st.booleans()
values = st.recursive(
    st.none() | numbers | names | st.builds(Opaque, names, names),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(names, inner, max_size=3)
        | st.dictionaries(names | numbers | st.tuples(names, numbers), inner, max_size=3)
        | st.builds(Struct, names, st.dictionaries(names, inner, max_size=3))
    ),
    max_leaves=6,
)
texts = st.dictionaries(names, names, max_size=3)
sets = st.frozensets(names, max_size=3)
figures = st.floats(0, 100)
connections = st.builds(Connection, figures, st.builds(Delay, figures, figures, figures))
footprints = st.builds(
    Footprint,
    st.sampled_from(Replay),
    services=texts,
    artifacts=sets,
    mounts=st.dictionaries(names, sets, max_size=2),
    acts_on=sets,
    uses=sets,
    reads=sets,
    images=sets,
    forced=st.booleans(),
    joins=texts,
    wiring=st.none() | st.builds(Wiring, st.none() | sets, st.none() | connections),
)
FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("text", "key", "resolved", "producer", "message", "stale"), names),
    "name": st.sampled_from(sorted(Registry())),
    "location": st.builds(Location, names, st.integers(0), st.integers(0)),
    "footprint": footprints,
    "values": st.dictionaries(names, st.dictionaries(names, values, max_size=2), max_size=2),
    "contents": texts,
    "services": st.dictionaries(
        names, st.builds(Struct, names, st.dictionaries(names, values, max_size=3)), max_size=2
    ),
    "images": texts,
}
"""What every field may hold; one that is not named here may hold any value by any name, or what its type says."""

OTHERS: Mapping[str, st.SearchStrategy[Any]] = {"int": st.integers(0), "str": names, "bool": st.booleans()}


def anything_in(name: str) -> st.SearchStrategy[Any]:
    otherwise = OTHERS.get(Record.__annotations__[name], st.dictionaries(names, values, max_size=3))
    return FIELDS.get(name, otherwise)


records = st.builds(Record, **{name: anything_in(name) for name in Record.__struct_fields__})


@pytest.fixture
def journal(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


@pytest.fixture
def other(tmp_path: Path, journal: Journal):
    """The same journal, as another process has it."""
    other = Journal(tmp_path / "journal")
    yield other
    other.close()


# Records as text


@settings(max_examples=100, deadline=None)
@given(records)
def test_every_record_comes_back_whole(record: Record):
    again = decode(encode(record))
    assert again == record
    for name in Record.__struct_fields__:
        before, after = getattr(record, name), getattr(again, name)
        assert repr(after) == repr(before) or sets_in(before), "1, 1.0 and True are equal in Python, not in Starlark"


def sets_in(value: object) -> bool:
    """Whether its text depends on an order that means nothing."""
    return isinstance(value, Footprint)


@given(values)
def test_every_value_comes_back_with_its_type(value: object):
    unpacked = decode(encode(replace(RECORD, values={"p": {"field": value}}))).values["p"]["field"]
    assert unpacked == value
    assert repr(unpacked) == repr(value)


def test_the_record_of_the_tests_has_something_in_every_field():
    for one in (RECORD, RECORD.footprint):
        assert all(getattr(one, name) for name in one.__struct_fields__)


def test_a_field_that_a_record_gets_later_is_kept_without_a_word_here(monkeypatch: pytest.MonkeyPatch):
    class Extended(Record, frozen=True):
        later: Mapping[str, Any] = msgspec.field(default_factory=dict)

    monkeypatch.setattr(codec, "Record", Extended)
    plain = {name: getattr(RECORD, name) for name in RECORD.__struct_fields__}
    record = Extended(**plain, later={"config": Struct("ServiceConfig", {"cmd": ["a"]})})
    assert decode(encode(record)) == record


@pytest.mark.parametrize("text", ["[]", "{}", '{"name": "x"}', "", "1", '{"$of": "os"}', '{"nonsense": 1}'])
def test_what_is_no_record_is_refused(text: str):
    with pytest.raises(ValueError, match="not a record of an executed instruction: "):
        decode(text)


def test_what_no_record_is_made_of_is_not_written(journal: Journal):
    with pytest.raises(TypeError, match=r"no record holds a set: \{1\}"):
        journal.append(replace(RECORD, values={"p": {"field": {1}}}))
    assert not journal.records


# Records in the file


def test_records_come_back_as_they_were(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    journal.append(RECORD)
    journal.append(replace(RECORD, name="exec"))
    journal.close()
    again = Journal(tmp_path / "journal")
    assert [record.name for record in again.records.values()] == ["add_service", "exec"]
    assert again.records[1] == RECORD
    again.close()


def test_replacing_reaches_the_disk(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    for _ in range(2):
        journal.append(RECORD)
    journal.put({1: replace(RECORD, stale="db changed"), 2: replace(RECORD, message="again")})
    journal.append(RECORD)
    journal.close()
    again = Journal(tmp_path / "journal")
    assert list(again.records) == [1, 2, 3]
    assert (again.records[1].stale, again.records[2].message) == ("db changed", "again")
    again.close()


# Several processes


def test_another_one_sees_what_was_written_once_it_refreshes(journal: Journal, other: Journal):
    journal.append(RECORD)
    journal.put_artifacts({"f": "1"})
    assert (len(other.records), other.artifacts) == (0, {})
    view = other.records
    assert other.refresh()
    assert (dict(view), other.snapshot(), other.artifacts) == ({1: RECORD}, (RECORD,), {"f": "1"})
    other.put({1: replace(RECORD, stale="changed")})
    assert journal.refresh()
    assert journal.records[1].stale == "changed"


def test_records_that_did_not_change_stay_the_same_objects(journal: Journal, other: Journal):
    for _ in range(3):
        journal.append(RECORD)
    other.refresh()
    before = other.snapshot()
    journal.put({2: replace(RECORD, stale="changed")})
    other.refresh()
    assert [one is two for one, two in zip(before, other.snapshot(), strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    "write",
    [
        lambda journal: journal.append(RECORD),
        lambda journal: journal.put({1: RECORD}),
        lambda journal: journal.put_artifacts({"f": "1"}),
        lambda journal: journal.remember_failure("s", "slot", "gw0", b""),
        lambda journal: journal.forget_failure("s", "slot"),
        lambda journal: journal.running().__enter__(),
    ],
)
def test_every_write_of_another_one_is_noticed_and_no_own_one(journal: Journal, other: Journal, write: Any):
    journal.append(RECORD)
    assert other.refresh()
    assert not other.refresh()
    write(journal)
    gc.collect()
    assert not journal.refresh()
    assert other.refresh()
    assert not other.refresh()


def test_looking_whether_another_one_has_written_takes_microseconds(journal: Journal, other: Journal):
    for _ in range(300):
        journal.append(RECORD)
    other.refresh()
    started = time.perf_counter()
    for _ in range(1000):
        other.refresh()
    assert time.perf_counter() - started < 0.2, "1000 times"


def test_two_that_write_in_turn_lose_nothing(journal: Journal, other: Journal):
    for number in range(20):
        writer = (journal, other)[number % 2]
        writer.refresh()
        writer.append(replace(RECORD, message=str(number)))
        writer.put_artifacts({f"a{number % 5}": str(number)})
    journal.refresh()
    assert [record.message for record in journal.snapshot()] == [str(number) for number in range(20)]
    assert journal.artifacts == other.artifacts == {f"a{number}": str(15 + number) for number in range(5)}


# Runs in progress


def test_a_run_in_progress_is_an_interrupted_one_to_others(journal: Journal, other: Journal):
    with journal.running():
        assert (journal.interrupted, other.interrupted) == (False, True)
    assert (journal.interrupted, other.interrupted) == (False, False)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_run_that_ends_with_an_exception_has_ended(journal: Journal, other: Journal, error: type[BaseException]):
    with pytest.raises(error), journal.running():
        raise error
    assert not other.interrupted


def test_an_interrupted_run_stays_one_and_no_other_begins(tmp_path: Path, journal: Journal, other: Journal):
    run = journal.running()
    run.__enter__()
    journal.close()
    with pytest.raises(JournalUnusable) as caught, other.running():
        pytest.fail("no run begins")
    expected = "is of a half-started enclave: a process died in the middle of a run"
    assert str(caught.value) == f"{tmp_path / 'journal'} {expected}"
    assert other.interrupted
    with pytest.raises(Exception, match="closed"):
        run.__exit__(None, None, None)


# Failures


def test_a_failure_is_known_to_all_processes_of_its_session(journal: Journal, other: Journal):
    body = b"\x00\xffpickled" * 100
    journal.remember_failure("s1", "shop", "gw0", body)
    assert journal.failure("s1", "shop") == other.failure("s1", "shop") == Failure("gw0", body)
    assert (other.failure("s1", "bank"), other.failure("s2", "shop")) == (None, None)


def test_the_latest_failure_of_a_slot_counts_and_those_of_other_sessions_are_forgotten(journal: Journal):
    for slot, by, body in [("a", "gw0", b"1"), ("b", "gw1", b"2"), ("a", "gw2", b"3")]:
        journal.remember_failure("s1", slot, by, body)
    assert (journal.failure("s1", "a"), journal.failure("s1", "b")) == (Failure("gw2", b"3"), Failure("gw1", b"2"))
    journal.remember_failure("s2", "a", "gw0", b"4")
    assert (journal.failure("s1", "a"), journal.failure("s2", "a")) == (None, Failure("gw0", b"4"))


def test_a_failure_is_forgotten_when_its_run_has_succeeded(journal: Journal):
    for slot in ("a", "b"):
        journal.remember_failure("s1", slot, "gw0", b"1")
    journal.forget_failure("s1", "a")
    journal.forget_failure("s1", "unknown")
    assert (journal.failure("s1", "a"), journal.failure("s1", "b")) == (None, Failure("gw0", b"1"))


def test_failures_and_artifacts_stay_when_the_file_is_closed(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    journal.remember_failure("s1", "shop", "gw0", b"body")
    journal.put_artifacts({"f": "1", "two words/ü": "2"})
    journal.put_artifacts({"f": "3"})
    journal.close()
    again = Journal(tmp_path / "journal")
    assert again.failure("s1", "shop") == Failure("gw0", b"body")
    assert again.artifacts == {"f": "3", "two words/ü": "2"}
    again.close()


def test_a_fingerprint_is_that_of_what_is_recorded(tmp_path: Path):
    with contextlib.closing(Journal(tmp_path / "journal")) as journal:
        seen = [journal.fingerprint]
        for write in (
            lambda: journal.append(RECORD),
            lambda: journal.append(RECORD),
            lambda: journal.put({2: replace(RECORD, message="other")}),
            lambda: journal.put_artifacts({"a": "1"}),
            lambda: journal.put_artifacts({"a": "2"}),
        ):
            write()
            seen.append(journal.fingerprint)
        assert len(set(seen)) == len(seen)
        with journal.running():
            pass
        journal.remember_failure("session", "slot", "test", b"error")
        assert journal.fingerprint == seen[-1], "that is no part of what was executed"
        journal.put_artifacts({"a": "1"})
        assert journal.fingerprint == seen[-2]
        with contextlib.closing(Journal(tmp_path / "journal")) as other:
            assert other.fingerprint == journal.fingerprint
            other.append(RECORD)
            assert other.fingerprint != journal.fingerprint
            journal.refresh()
            assert other.fingerprint == journal.fingerprint
