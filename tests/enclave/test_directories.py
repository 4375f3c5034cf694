"""Directories of enclaves go with them; those of killed sessions go with the next session that ends in order."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.enclave.directories import YOUNGEST, EnclaveDirectory, sweep

HOLDER = """
import sys, tempfile
sys.path[:] = sys.argv[2:]
tempfile.tempdir = sys.argv[1]
from pytest_enclave.enclave.directories import EnclaveDirectory
held = EnclaveDirectory.make("shop")
(held.path / "journal.sqlite").touch()
print(held.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """Another session, with a directory."""
    command = [sys.executable, "-c", HOLDER, str(temporary), *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def age(path: Path, seconds: float = YOUNGEST + 1) -> None:
    """Make a directory that old."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_it_is_private_and_goes_with_all_that_is_in_it(temporary: Path) -> None:
    made = EnclaveDirectory.make("shop")
    assert made.path.parent == temporary
    assert made.path.stat().st_mode & 0o777 == 0o700
    (made.path / "artifacts").mkdir()
    (made.path / "artifacts" / "file").touch()
    made.remove()
    assert list(temporary.iterdir()) == []


def test_that_of_a_killed_session_is_swept_and_that_of_a_living_one_is_not(holder: subprocess.Popen[str]) -> None:
    path = Path(holder.stdout.readline().strip())
    age(path)
    sweep()
    assert path.is_dir()
    holder.kill()
    holder.wait()
    sweep()
    assert not path.exists()


def test_one_that_was_just_made_is_left_alone(holder: subprocess.Popen[str]) -> None:
    path = Path(holder.stdout.readline().strip())
    holder.kill()
    holder.wait()
    age(path, YOUNGEST - 10)
    sweep()
    assert path.is_dir()


def test_nothing_else_is_swept(temporary: Path) -> None:
    left = temporary / "elsewhere"
    names = ("pytest-enclave-0", "pytest-enclave-trial-abc", "pytest-of-me", "pytest-enclave-x-0123456789ABCDEF")
    for path in (left, *(temporary / name for name in names)):
        path.mkdir()
        age(path)
    link = temporary / "pytest-enclave-link-0123456789abcdef"
    link.symlink_to(left)
    (temporary / "pytest-enclave-file-0123456789abcdef").touch()
    before = sorted(temporary.iterdir())
    sweep()
    assert sorted(temporary.iterdir()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
def test_those_of_others_are_not_swept(temporary: Path) -> None:
    path = temporary / "pytest-enclave-shop-0123456789abcdef"
    path.mkdir()
    os.chown(path, 65534, 65534)
    age(path)
    sweep()
    assert path.is_dir()
