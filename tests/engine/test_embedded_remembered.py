"""What was learnt of a machine spares the next process a trial, until something looks different."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pytest_enclave.engine.embedded import probe, remembered
from pytest_enclave.engine.embedded.machine import look
from pytest_enclave.engine.embedded.probe import Trial, examine, examine_again
from pytest_enclave.engine.embedded.refusals import Failure
from pytest_enclave.engine.embedded.remembered import LONGEST, forget, recall, remember

MACHINE = look()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where it is remembered; nothing is yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    examine.cache_clear()
    yield tmp_path / "pytest-enclave" / "examined"
    examine.cache_clear()


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The outcomes of the trials to come; each that is made is taken from the front."""
    outcomes: list[Trial] = []
    monkeypatch.setattr(probe, "attempt", lambda: outcomes.pop(0))
    return outcomes


def next_process() -> None:
    examine.cache_clear()


GOOD = Trial(kind="root", facts={"user attributes": False})
BAD = Trial(Failure("user namespace", 1, "Operation not permitted"))


def test_the_next_process_makes_no_trial(trials: list[Trial]) -> None:
    trials.append(GOOD)
    found = examine()
    next_process()
    assert examine() == found
    assert found.endpoint == "this machine, as root"


def test_a_refusal_is_not_remembered(trials: list[Trial]) -> None:
    trials += [BAD, GOOD]
    assert examine().refusal is not None
    next_process()
    assert examine().refusal is None


def test_where_it_does_not_hold_it_is_tried_again(trials: list[Trial]) -> None:
    trials += [GOOD, BAD, BAD]
    assert examine().refusal is None
    assert examine_again().refusal is not None
    next_process()
    assert examine().refusal is not None
    assert trials == []


def test_it_is_remembered_for_an_hour(place: Path) -> None:
    remember(MACHINE, ["here"])
    assert recall(MACHINE) == ["here"]
    (file,) = place.iterdir()
    for age in (LONGEST + 1, -60.0):
        then = time.time() - age
        os.utime(file, (then, then))
        assert recall(MACHINE) is None, "too old, or of a clock that was set back"
    remember(MACHINE, ["again"])
    assert recall(MACHINE) == ["again"]


def test_what_is_old_goes_when_something_is_remembered(place: Path) -> None:
    remember(MACHINE, ["here"])
    (file,) = place.iterdir()
    os.utime(file, (1, 1))
    remember(replace(MACHINE, root=not MACHINE.root), ["there"])
    assert file not in list(place.iterdir())


@pytest.mark.parametrize("change", ["machine", "user", "path", "interpreter"])
def test_whatever_looks_different_is_another_machine(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    remember(MACHINE, ["here"])
    assert recall(MACHINE) == ["here"]
    machine = replace(MACHINE, profile="strict") if change == "machine" else MACHINE
    if change == "user":
        monkeypatch.setattr(os, "getegid", lambda: 4711)
    elif change == "path":
        monkeypatch.setenv("PATH", "/elsewhere")
    elif change == "interpreter":
        monkeypatch.setattr("sys.executable", "/another/python")
    assert recall(machine) is None


@pytest.mark.parametrize("text", ["", "{", '"here"', "{}"])
def test_what_cannot_be_read_is_not_known(place: Path, text: str) -> None:
    remember(MACHINE, ["here"])
    assert recall(MACHINE) == ["here"]
    (file,) = place.iterdir()
    file.write_text(text)
    assert recall(MACHINE) is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember(MACHINE, ["here"])
    assert recall(MACHINE) is None
    forget(MACHINE)


def test_it_can_be_forgotten() -> None:
    remember(MACHINE, ["here"])
    forget(MACHINE)
    assert recall(MACHINE) is None
    forget(MACHINE)


def test_what_matters_is_looked_at() -> None:
    assert set(remembered.SEEN) >= {"/etc/subuid", "/proc/self/ns/user"}
