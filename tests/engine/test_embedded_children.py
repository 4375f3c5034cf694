"""What init has done aside by children of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.inside.children import do_aside


def children() -> set[int]:
    """The processes that this one has made and not waited for."""
    return {int(each) for thread in Path("/proc/self/task").iterdir() for each in _made_by(thread)}


def _made_by(thread: Path) -> list[str]:
    try:
        return (thread / "children").read_text().split()
    except OSError:
        return []


@pytest.fixture
def wait() -> Callable[[], None]:
    """Waits for the child that the test has made: others may have left some of theirs."""
    before = children()

    def wait_for_it() -> None:
        (child,) = children() - before
        assert os.waitpid(child, 0)[1] == 0

    return wait_for_it


def test_descriptors_are_closed_here_before_the_work_begins_and_there_too(tmp_path: Path, wait: Callable[[], None]):
    reader, writer = os.pipe()
    told = tmp_path / "told"

    def work() -> None:
        # All ends that write are closed by now: nothing comes any more.
        here = os.open(f"/proc/{parent}/fd", os.O_RDONLY)
        # Another thread may have something else under that number.
        ends = [os.readlink(each, dir_fd=here) for each in os.listdir(here) if int(each) == writer]
        told.write_text(f"{pipe in ends} {len(os.listdir('/proc/self/fd'))}")

    parent, pipe = os.getpid(), os.readlink(f"/proc/self/fd/{writer}")
    do_aside(work, [writer])
    assert os.read(reader, 1) == b"", "the child has closed its copy too"
    wait()
    os.close(reader)
    assert told.read_text() == "False 5", "standard streams, and what this looks at"


def test_nothing_stays_open_here(tmp_path: Path, wait: Callable[[], None]):
    before = os.listdir("/proc/self/fd")
    do_aside(lambda: None, [os.open(tmp_path, os.O_RDONLY)])
    wait()
    assert os.listdir("/proc/self/fd") == before


def test_errors_of_the_system_are_nobodys(wait: Callable[[], None]):
    def work() -> None:
        raise PermissionError(1, "no")

    do_aside(work, [])
    wait()


@pytest.mark.parametrize("lacking", ["fork", "pipe"])
def test_where_there_can_be_no_child_it_is_done_here(lacking: str, monkeypatch: pytest.MonkeyPatch):
    done: list[bool] = []
    reader, writer = os.pipe()

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def work() -> None:
        done.append(os.read(reader, 1) == b"")
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, lacking, refuse)
    do_aside(work, [writer])
    os.close(reader)
    assert done == [True]
