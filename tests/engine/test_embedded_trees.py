"""Removing trees, whatever is in them."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_enclave.engine.embedded.inside.trees import remove_tree


def test_everything_below_goes_and_nothing_else(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("kept")
    top = tmp_path / "top"
    for path in ("a/b/c", "a/b/d", "e", "1.removed/x", "2.removed"):
        (top / path).mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "a" / "out").symlink_to(tmp_path / "outside")
    (top / "out").symlink_to(tmp_path / "outside")
    os.mkfifo(top / "e" / "pipe")
    (top / "e").chmod(0o500 if os.geteuid() == 0 else 0o700)
    remove_tree(str(top))
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (tmp_path / "outside" / "kept").read_text() == "kept"


def test_any_depth_and_any_name(tmp_path: Path):
    here = os.getcwd()
    top = tmp_path / "top"
    top.mkdir()
    os.chdir(top)
    try:
        for _ in range(3000):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        Path("file").write_text("x")
    finally:
        os.chdir(here)
    os.mkdir(os.path.join(os.fsencode(top), b"\xff\xfe"))
    remove_tree(str(top))
    assert not top.exists()


def test_what_is_not_there_is_removed_already(tmp_path: Path):
    remove_tree(str(tmp_path / "nothing"))
