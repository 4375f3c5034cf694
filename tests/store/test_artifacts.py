"""Files artifacts: what goes in comes out, nothing leaves its directory, and the digest tells contents apart."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from pytest_enclave.errors import ExecutionError
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal

Entry: TypeAlias = "tarfile.TarInfo | tuple[str, bytes]"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


@pytest.fixture
def store(tmp_path: Path, journal: Journal) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", journal)


def tar(*members: Entry) -> Iterator[bytes]:
    """A tar stream of files, given by name and content, and of ready-made members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    yield buffer.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    info = link(name, target)
    info.type = tarfile.LNKTYPE
    return info


def device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.CHRTYPE
    return info


def directory(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def content(store: ArtifactStore, name: str) -> dict[str, bytes]:
    root = store.directory(name)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_file_is_stored_under_its_own_name(store: ArtifactStore, tmp_path: Path):
    (tmp_path / "config.toml").write_text("a = 1")
    store.store_path("config", tmp_path / "config.toml")
    assert content(store, "config") == {"config.toml": b"a = 1"}


def test_of_a_directory_the_content_is_stored(store: ArtifactStore, tmp_path: Path):
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "sub" / "a.txt").write_text("a")
    store.store_path("src", tmp_path / "src")
    assert content(store, "src") == {"sub/a.txt": b"a"}


def test_equal_content_has_equal_digests_whatever_its_age_and_way(store: ArtifactStore, tmp_path: Path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.txt").write_text("a")
    os.utime(tmp_path / "src" / "a.txt", (1, 1))
    assert store.store_path("one", tmp_path / "src") == store.store_files("two", {"a.txt": b"a"})


def test_other_content_goes_to_another_directory_and_the_old_one_stays_for_who_mounts_it(store: ArtifactStore):
    first = store.store_files("f", {"a": b"1"})
    mounted = store.directory("f")
    assert store.store_files("f", {"a": b"2"}) != first
    assert (mounted / "a").read_bytes() == b"1"
    assert content(store, "f") == {"a": b"2"}


def test_a_stored_directory_keeps_its_name_unless_only_its_content_is_wanted(store: ArtifactStore):
    members = (directory("data"), ("data/a", b"1"))
    store.store_tar("whole", tar(*members), content_only=False)
    store.store_tar("inner", tar(*members), content_only=True)
    assert (content(store, "whole"), content(store, "inner")) == ({"data/a": b"1"}, {"a": b"1"})


def test_entries_that_would_leave_the_artifact_are_left_out(store: ArtifactStore, tmp_path: Path):
    device = tarfile.TarInfo("device")
    device.type = tarfile.CHRTYPE
    hostile = (("../outside", b"x"), ("/absolute", b"x"), link("passwd", "/etc/passwd"), link("up", "../../.."), device)
    store.store_tar("hostile", tar(*hostile, ("good", b"1")), content_only=False)
    assert content(store, "hostile") in ({"good": b"1"}, {"absolute": b"x", "good": b"1"})
    assert not (tmp_path / "outside").exists()
    assert not list(store.directory("hostile").rglob("passwd"))


def way_out(target: Path, depth: str = "abcdefghijklmnop") -> list[Entry]:
    """The published attack on `tarfile` (CVE-2025-4517): a chain of short links that stand for long directories.

    Where they lead is longer than any path may be, and there `realpath` takes the last link for a file.
    """
    long = "d" * 247
    members: list[Entry] = []
    path = ""
    for step in depth:
        members += [directory(f"{path}{long}"), link(f"{path}{step}", long)]
        path += f"{long}/"
    chain = "/".join(depth) + "/" + "l" * 254
    ups = "../" * (len(depth) + len(target.parts))
    return [*members, link(chain, "../" * len(depth)), link("escape", f"{chain}/{ups}{str(target).lstrip('/')}")]


@pytest.mark.parametrize(
    "last",
    [
        lambda: [("escape/victim", b"changed")],
        lambda: [hard_link("mine", "escape/victim"), ("mine", b"changed")],
        lambda: [directory("escape"), ("escape/victim", b"changed")],
        lambda: [link("again", "escape/victim"), ("again", b"changed")],
    ],
    ids=["through the link", "hard link", "directory", "link to it"],
)
def test_the_published_ways_out_by_paths_that_get_too_long_lead_nowhere(
    store: ArtifactStore, tmp_path: Path, last: Callable[[], list[Entry]]
):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    victim.chmod(0o600)
    store.store_tar("hostile", tar(*way_out(tmp_path), *last(), ("good", b"1")), content_only=False)
    assert (victim.read_text(), victim.stat().st_mode & 0o777, victim.stat().st_nlink) == ("kept", 0o600, 1)
    assert content(store, "hostile")["good"] == b"1"
    assert outward(store.directory("hostile")) == []


def outward(root: Path) -> list[str]:
    """Links that lead out of a directory, or are longer than can be followed."""
    found = []
    for place, directories, files in os.walk(root):
        for path in (Path(place, name) for name in (*directories, *files) if os.path.islink(f"{place}/{name}")):
            try:
                inside = path.resolve(strict=True).is_relative_to(root.resolve())
            except FileNotFoundError:
                inside = ".." not in os.path.relpath(os.path.join(place, os.readlink(path)), root).split("/")
            found += [] if inside else [str(path)]
    return found


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ([link("x", "later/../../y"), link("later", ".")], {"later"}),
        ([link("x", "later/../y"), link("later", ".")], {"later"}),
        ([link("x", "later/../y"), directory("later")], {"x", "later"}),
        ([directory("d"), link("d/x", "../y"), hard_link("x", "d/x")], {"d", "d/x"}),
        ([link("a", "a")], set()),
        ([directory("d"), link("l", "d"), ("l/x", b"1")], {"d", "l"}),
        (
            [directory("d"), ("d/x", b"1"), link("l", "d"), link("m", "l/x"), link("n", "m")],
            {"d", "d/x", "l", "m", "n"},
        ),
        ([("x", b"1"), link("l", "x"), ("l", b"2")], {"x", "l"}),
        ([link("dangling", "nothing/there")], {"dangling"}),
        ([("a/../x", b"1")], set()),
        ([device("d"), hard_link("x", "d")], set()),
        ([directory("etc"), ("etc/passwd", b"1"), hard_link("x", "/etc/passwd")], {"etc", "etc/passwd"}),
        ([("x", b"1"), hard_link("y", "x"), hard_link("z", "nothing")], {"x", "y"}),
        ([("d/" * 2100 + "x", b"1")], set()),
    ],
    ids=lambda value: "" if isinstance(value, set) else None,
)
def test_links_stay_that_lead_inside_when_all_is_there(store: ArtifactStore, members: list[Entry], kept: set[str]):
    store.store_tar("links", tar(*members, ("good", b"1")), content_only=False)
    root = store.directory("links")
    assert {path.relative_to(root).as_posix() for path in root.rglob("*")} == {*kept, "good"}
    assert outward(root) == []


def test_a_file_that_takes_the_place_of_a_link_is_not_written_through_it(store: ArtifactStore):
    store.store_tar("f", tar(("x", b"1"), link("l", "x"), ("l", b"2")), content_only=False)
    assert content(store, "f") == {"x": b"1", "l": b"2"}


@pytest.mark.parametrize("name", ["../../outside", "/absolute", "two words/ü", "x" * 300, "."])
def test_whatever_a_name_is_its_files_stay_inside(store: ArtifactStore, tmp_path: Path, name: str):
    store.store_files(name, {"a": b"1"})
    assert content(store, name) == {"a": b"1"}
    assert store.directory(name).resolve().parent == (tmp_path / "artifacts").resolve()


def test_names_that_look_alike_as_file_names_are_told_apart(store: ArtifactStore):
    store.store_files("a b", {"f": b"1"})
    store.store_files("a/b", {"f": b"2"})
    assert (content(store, "a b"), content(store, "a/b")) == ({"f": b"1"}, {"f": b"2"})


def test_files_that_the_disk_refuses_are_an_error_of_the_run(store: ArtifactStore):
    with pytest.raises(ExecutionError, match="files artifact `f` cannot be stored: File name too long"):
        store.store_files("f", {"x" * 300: b"1"})


@pytest.mark.parametrize("kept", [0, 100, 700])
def test_files_that_break_off_are_an_error_of_the_run(store: ArtifactStore, kept: int):
    whole = b"".join(tar(("file", 1000 * b"x")))
    with pytest.raises(ExecutionError, match=r"^the files break off: what was sending them has ended$"):
        store.store_tar("a", iter([whole[:kept]]), content_only=False)
    assert not store.names()


def test_every_user_may_read_what_is_stored(store: ArtifactStore, tmp_path: Path):
    (tmp_path / "src").mkdir(mode=0o700)
    secret = tmp_path / "src" / "program"
    secret.write_text("#!/bin/sh")
    secret.chmod(0o700)
    store.store_path("p", tmp_path / "src")
    root = store.directory("p")
    assert (root.stat().st_mode & 0o777, (root / "program").stat().st_mode & 0o777) == (0o755, 0o755)


def merged(store: ArtifactStore, *names: str) -> dict[str, bytes]:
    [(name, root)] = store.merged([names]).items()
    assert name == "/".join(names)
    assert name not in store.names()
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_several_artifacts_are_put_together_and_the_last_one_wins(store: ArtifactStore):
    store.store_files("one", {"a": b"1", "d/x": b"1", "file": b"1", "directory/x": b"1"})
    store.store_files("two", {"b": b"2", "d/x": b"2", "d/y": b"2", "file/x": b"2", "directory": b"2"})
    common = {"a": b"1", "b": b"2", "d/y": b"2"}
    assert merged(store, "one", "two") == common | {"d/x": b"2", "file/x": b"2", "directory": b"2"}
    assert merged(store, "two", "one") == common | {"d/x": b"1", "file": b"1", "directory/x": b"1"}
    store.store_files("two", {"a": b"3"})
    assert merged(store, "one", "two")["a"] == b"3"


def test_a_single_artifact_is_not_put_together(store: ArtifactStore):
    store.store_files("one", {"a": b"1"})
    assert store.merged([("one",)]) == {}


def test_nothing_is_written_through_a_link_when_artifacts_are_put_together(store: ArtifactStore):
    store.store_tar("one", tar(link("a", "b"), ("b", b"1")), content_only=False)
    store.store_files("two", {"a": b"2"})
    assert merged(store, "one", "two") == {"a": b"2", "b": b"1"}
    assert content(store, "one") == {"a": b"1", "b": b"1"}


# What other processes, and later sessions, find


def test_another_process_finds_the_artifacts_of_this_one(store: ArtifactStore, journal: Journal, tmp_path: Path):
    other = Journal(tmp_path / "journal")
    theirs = ArtifactStore(tmp_path / "artifacts", other)
    store.store_files("f", {"a": b"1"})
    store.store_files("g", {"b": b"2"})
    other.refresh()
    assert theirs.names() == ("f", "g")
    assert theirs.directories() == store.directories()
    theirs.store_files("f", {"a": b"3"})
    assert merged(theirs, "f", "g") == {"a": b"3", "b": b"2"}
    journal.refresh()
    assert content(store, "f") == {"a": b"3"}
    assert merged(store, "f", "g") == {"a": b"3", "b": b"2"}
    other.close()


def test_a_later_session_finds_them(store: ArtifactStore, journal: Journal, tmp_path: Path):
    digest = store.store_files("f", {"a": b"1"})
    journal.close()
    again = Journal(tmp_path / "journal")
    later = ArtifactStore(tmp_path / "artifacts", again)
    assert (later.digests(), content(later, "f"), later.missing()) == ({"f": digest}, {"a": b"1"}, ())
    again.close()


def test_artifacts_whose_files_are_gone_are_told(store: ArtifactStore):
    for name in ("f", "g", "h"):
        store.store_files(name, {"a": name.encode()})
    shutil.rmtree(store.directory("g"))
    assert store.missing() == ("g",)
    shutil.rmtree(store.directory("f").parent)
    assert store.missing() == ("f", "g", "h")


def test_an_artifact_that_could_not_be_stored_is_in_no_index(store: ArtifactStore, journal: Journal):
    with pytest.raises(ExecutionError):
        store.store_files("f", {"x" * 300: b"1"})
    assert (store.names(), journal.artifacts) == ((), {})
