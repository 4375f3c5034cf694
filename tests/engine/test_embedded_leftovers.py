"""Directories that all enclaves of a user have in common: they come and go while others look."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import pytest_enclave
from pytest_enclave.engine.embedded.inside.leftovers import (
    Leftovers,
    is_in_use,
    locked,
    make_directory,
    remove_home,
)
from pytest_enclave.linux.cgroups import Cgroups

ROUNDS = 300

REMOVER = """
import os, sys
while True:
    try:
        os.rmdir(sys.argv[1])
    except OSError:
        pass
"""

USER = """
import os, shutil, sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.engine.embedded.inside.leftovers import Leftovers, use_files
for number in range(10):
    own = f"{sys.argv[2]}/files/{os.getpid()}-{number}"
    child = os.fork()
    if child == 0:
        use_files([own])
        os.stat(own)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, number
    leaks = Leftovers("x", "", [own], "").remove_files()
    assert leaks == [], leaks
"""


@contextmanager
def removed_again_and_again(directory: Path) -> Iterator[None]:
    """Another process removes a directory whenever it is empty."""
    remover = subprocess.Popen([sys.executable, "-c", REMOVER, str(directory)])
    try:
        yield
    finally:
        remover.kill()
        remover.wait()


def test_a_directory_is_made_while_others_remove_the_one_above(tmp_path: Path):
    parent = tmp_path / "all"
    with removed_again_and_again(parent):
        for number in range(ROUNDS):
            os.close(make_directory(str(parent / str(number)), ""))
            (parent / str(number)).rmdir()


def test_a_control_group_is_made_while_others_remove_the_one_above(tmp_path: Path):
    groups = Cgroups({"memory": str(tmp_path / "all")}, unified=False)
    with removed_again_and_again(tmp_path / "all"):
        for number in range(ROUNDS):
            groups._make_directories(str(tmp_path / "all"), f"enclave/{number}")
            (tmp_path / "all" / "enclave" / str(number)).rmdir()
            (tmp_path / "all" / "enclave").rmdir()


def test_files_are_made_while_others_remove_theirs(tmp_path: Path):
    root = str(Path(pytest_enclave.__file__).parents[1])
    users = [subprocess.Popen([sys.executable, "-c", USER, root, str(tmp_path)]) for _ in range(3)]
    assert [each.wait() for each in users] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_what_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / "files"
    place.mkdir()

    def lock(descriptor: int, _: int) -> None:
        place.rmdir()
        place.mkdir()

    monkeypatch.setattr(fcntl, "flock", lock)
    with pytest.raises(FileNotFoundError), locked(str(place)):
        pass


def test_a_directory_is_in_use_from_the_moment_it_is_made(tmp_path: Path):
    home = tmp_path / "home"
    place = home / "embedded"
    assert not is_in_use(str(place))
    place.mkdir(parents=True)
    assert is_in_use(str(place))
    os.utime(place, (0, 0))
    assert not is_in_use(str(place))
    place.rmdir()
    with pytest.raises(OSError, match="the enclave's home, is not there any more"):
        make_directory("/nowhere/home/embedded", "/nowhere/home")


def test_what_is_recorded_is_what_is_removed(tmp_path: Path):
    place, files = tmp_path / "home" / "embedded", tmp_path / "files" / "own"
    for each in (place, files):
        each.mkdir(parents=True)
    Leftovers("own", str(place), [str(files)], str(tmp_path / "home")).record()
    found = Leftovers.recorded("own", str(place), ["/else/where"], str(tmp_path / "home"))
    assert found.files == [str(files)]
    assert found.remove() == []
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]
    assert list((tmp_path / "home").iterdir()) == []
    assert Leftovers.recorded("own", str(place), ["/else/where"], "").files == ["/else/where"]


def test_a_home_goes_only_if_it_has_a_lease_that_nobody_has(tmp_path: Path):
    (tmp_path / "artifacts").mkdir()
    remove_home(str(tmp_path))
    assert (tmp_path / "artifacts").exists()
    with (tmp_path / "lease").open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_SH)
        remove_home(str(tmp_path))
        assert (tmp_path / "artifacts").exists()
    remove_home(str(tmp_path))
    assert not tmp_path.exists()
    tmp_path.mkdir()


def test_a_home_goes_though_something_is_put_into_it_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "lease").touch()
    rmdir = os.rmdir

    def mark_and_remove(*what: object, **where: object) -> None:
        with suppress(FileNotFoundError):
            (home / "failed").touch()
        rmdir(*what, **where)

    monkeypatch.setattr(os, "rmdir", mark_and_remove)
    remove_home(str(home))
    assert list(tmp_path.iterdir()) == []
