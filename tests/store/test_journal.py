"""The journal keeps records exactly, survives its process, and refuses files that it does not understand."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.values import Struct
from pytest_enclave.source import Location
from pytest_enclave.store.codec import decode, encode
from pytest_enclave.store.journal import Journal

RECORD = Record(
    name="add_service",
    text='add_service(name="db")',
    key="key",
    resolved="resolved",
    producer="0" * 32,
    location=Location("main.star", 3, 9),
    footprint=Footprint(
        Replay.REPLACE,
        services={"db": "text"},
        artifacts=frozenset({"files"}),
        mounts={"db": frozenset({"other"})},
        acts_on=frozenset({"x"}),
        uses=frozenset({"y"}),
        reads=frozenset({"z"}),
        images=frozenset({"postgres"}),
    ),
    values={"0" * 32: {"code": 200, "list": [1, 1.0, "1", True, None], "tuple": (1, (2,))}},
    contents={"files": "digest"},
    services={"db": Struct("ServiceConfig", {"ports": {"p": Struct("PortSpec", {"number": 1})}})},
    images={"postgres": "sha256:1"},
    message="up",
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.sampled_from(["$struct", "$tuple", "$dict"]), inner)
        | st.dictionaries(st.text(), inner).map(lambda fields: Struct("struct", fields))
    ),
    max_leaves=12,
)


def test_records_come_back_as_they_were(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    journal.append(RECORD)
    journal.append(replace(RECORD, name="exec"))
    journal.close()
    again = Journal(tmp_path / "journal")
    assert [record.name for record in again.records.values()] == ["add_service", "exec"]
    assert again.records[1] == RECORD
    again.close()


@given(values)
def test_every_value_comes_back_with_its_type(value: object):
    packed = replace(RECORD, values={"p": {"field": value}})
    unpacked = decode(encode(packed)).values["p"]["field"]
    assert unpacked == value
    assert repr(unpacked) == repr(value), "1, 1.0 and True are equal in Python, and differ in Starlark"


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


def test_a_journal_of_another_version_is_refused(tmp_path: Path):
    path = tmp_path / "journal"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ValueError, match="is a journal of version 99; this version reads 1"):
        Journal(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"name": "x"}'])
def test_what_is_no_record_is_refused(text: str):
    with pytest.raises(ValueError, match="not a record"):
        decode(text)


def test_what_was_appended_survives_a_kill(tmp_path: Path):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.store.test_journal import RECORD, Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "while True:\n"
        "    journal.append(RECORD)\n"
        "    print(len(journal.records), flush=True)\n"
    )
    path = tmp_path / "journal"
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.1)
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged = int((writer.stdout.read().split("\n") or ["1"])[-2])
    writer.stdout.close()
    writer.wait()
    journal = Journal(path)
    assert len(journal.records) >= acknowledged
    journal.close()
