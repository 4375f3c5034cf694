"""Digests of trees, and fingerprints of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.digest import digest_of
from pytest_enclave.package.files import FileState, unchanged


def tree(root: Path) -> Path:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "x").write_text("1")
    (root / "a" / "b" / "y").write_text("2")
    (root / "a" / "link").symlink_to("x")
    return root / "a"


def digest(path: Path) -> str:
    return digest_of(path, "./a")[0]


def test_equal_trees_have_equal_digests_whatever_their_times(tmp_path: Path) -> None:
    first, second = (tree(tmp_path / name) for name in ("one", "two"))
    os.utime(second / "x", (1, 1))
    assert digest(first) == digest(second)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: (a / "x").write_text("3"), id="content"),
        pytest.param(lambda a: (a / "x").chmod(0o755), id="executable"),
        pytest.param(lambda a: (a / "x").rename(a / "z"), id="name"),
        pytest.param(lambda a: (a / "new").mkdir(), id="empty-directory"),
        pytest.param(lambda a: ((a / "link").unlink(), (a / "link").symlink_to("b")), id="link"),
        pytest.param(lambda a: ((a / "x").write_text(""), (a / "b" / "y").write_text("12")), id="shifted-bytes"),
    ],
)
def test_every_change_shows(tmp_path: Path, change: Callable[[Path], object]) -> None:
    root = tree(tmp_path)
    before = digest(root)
    change(root)
    assert digest(root) != before


def test_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    (tmp_path / "y").write_text("1")
    assert digest(tmp_path / "x") == digest(tmp_path / "y")


def test_links_out_of_the_tree_and_special_files_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "out").symlink_to("/etc/passwd")
    with pytest.raises(PackageError, match="holds the link `out`, which leads out of it"):
        digest(root)
    (root / "out").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(PackageError, match="holds `pipe`, a device, pipe or socket"):
        digest(root)


def test_fingerprints_notice_changes_additions_and_removals(tmp_path: Path) -> None:
    root = tree(tmp_path)
    _, states = digest_of(root, "./a")
    assert unchanged(states)
    (root / "x").write_text("11")
    assert not unchanged(states)
    _, states = digest_of(root, "./a")
    os.utime(root / "b", ns=(1, 1))
    assert not unchanged(states)
    _, states = digest_of(root, "./a")
    (root / "b" / "y").unlink()
    assert not unchanged(states)
    assert unchanged([FileState.of(tmp_path / "never")])
