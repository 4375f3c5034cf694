"""What is kept of files from one process to the next, and what may be found in its place."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.language import kept
from pytest_enclave.language.kept import KeptModules
from pytest_enclave.language.module import Module
from pytest_enclave.language.predeclared import PREDECLARED

TEXT = (
    'other = import_module("./other.star")\n\ndef run(plan):\n\tplan.assert(value = "%s" % 1, assertion = "==",'
    ' target_value = "1")\n' + "# padding\n" * 60
)


@pytest.fixture
def entries(tmp_path: Path) -> KeptModules:
    return KeptModules(tmp_path / "starlark")


def entry(entries: KeptModules) -> Path:
    (path,) = (path for path in entries._root.rglob("*") if not path.is_dir())
    return path


def keep(entries: KeptModules, text: str = TEXT, name: str = "main.star") -> Module:
    module = Module.of(name, text, PREDECLARED)
    entries.keep(module, PREDECLARED)
    return module


def test_a_kept_module_is_found_as_it_was_under_the_name_it_has_now(entries: KeptModules):
    assert entries.find("main.star", TEXT, PREDECLARED) is None
    assert keep(entries) == entries.find("main.star", TEXT, PREDECLARED)
    moved = entries.find("moved.star", TEXT, PREDECLARED)
    assert moved is not None
    assert (moved.name, moved.imports[0].place.file) == ("moved.star", "moved.star")


def test_another_text_or_other_names_are_another_module(entries: KeptModules):
    keep(entries)
    assert entries.find("main.star", TEXT + " ", PREDECLARED) is None
    assert entries.find("main.star", TEXT, PREDECLARED | {"more"}) is None


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"run", b"nur"))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _garbled(path: Path) -> None:
    path.write_bytes(b"\xff\n\x80")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("damage", [_truncated, _changed, _emptied, _garbled, _pipe, _directory, _endless])
def test_whatever_is_found_in_its_place_is_no_entry(entries: KeptModules, damage: Callable[[Path], None]):
    keep(entries)
    damage(entry(entries))
    assert entries.find("main.star", TEXT, PREDECLARED) is None
    keep(entries)


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path):
    (tmp_path / "file").write_text("")
    entries = KeptModules(tmp_path / "file" / "starlark")
    keep(entries)
    assert entries.find("main.star", TEXT, PREDECLARED) is None


def test_old_entries_make_room_for_new_ones(entries: KeptModules, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept, "ROOM", 6_000)
    for number in range(200):
        keep(entries, TEXT + f"# {number}\n")
    size = sum(path.stat().st_size for path in entries._root.rglob("*") if path.is_file())
    assert size <= 16 * 9_000
    assert entries.find("main.star", TEXT + "# 199\n", PREDECLARED) is not None


def test_what_is_refused_is_refused_again_with_the_same_words(entries: KeptModules):
    told = []
    for _ in range(2):
        with pytest.raises(InterpretationError) as caught:
            keep(entries, TEXT + "x = undefined\n")
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_short_texts_are_not_worth_an_entry(entries: KeptModules):
    keep(entries, "def run(plan):\n    pass\n")
    assert not entries._root.exists()


def _imported(name: str) -> set[str]:
    """The files of this room that one of them imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(kept.__file__).with_name(f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pytest_enclave.language"):
            found |= {node.module.split(".")[2]} if node.module.count(".") == 2 else {each.name for each in node.names}
    return found


def test_every_file_that_has_a_part_in_making_modules_is_known():
    passes = {"kept"}
    for _ in range(10):
        passes |= {other for name in passes for other in _imported(name)}
    assert passes == set(kept.PASSES)


def test_other_code_of_the_same_time_and_size_is_other_code(
    tmp_path: Path, entries: KeptModules, monkeypatch: pytest.MonkeyPatch
):
    keep(entries)
    installed = tmp_path / "language"
    shutil.copytree(Path(kept.__file__).parent, installed)
    monkeypatch.setattr(kept, "__file__", str(installed / "kept.py"))
    kept._code.cache_clear()
    assert entries.find("main.star", TEXT, PREDECLARED) is not None
    file = installed / "caution.py"
    before = file.stat()
    file.write_text(file.read_text().replace("return True", "return None", 1)[: before.st_size])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    kept._code.cache_clear()
    try:
        assert file.stat().st_size == before.st_size
        assert entries.find("main.star", TEXT, PREDECLARED) is None
    finally:
        monkeypatch.undo()
        kept._code.cache_clear()


def test_code_is_looked_at_once_in_a_process(entries: KeptModules, monkeypatch: pytest.MonkeyPatch):
    kept._code()
    monkeypatch.setattr(kept, "__file__", "/nowhere/kept.py")
    keep(entries)
    assert entries.find("main.star", TEXT, PREDECLARED) is not None


def test_without_source_files_nothing_is_kept(entries: KeptModules, monkeypatch: pytest.MonkeyPatch):
    kept._code.cache_clear()
    monkeypatch.setattr(kept, "__file__", "/nowhere/kept.py")
    keep(entries)
    assert entries.find("main.star", TEXT, PREDECLARED) is None
    assert not entries._root.exists()
