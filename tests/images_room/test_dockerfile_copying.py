"""What `COPY` and `ADD` take from a build context."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_enclave.images.dockerfile.copying import Context, refuse_remote, without_top
from pytest_enclave.images.faults import ImageFault

FILES = ("a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt", "[x].txt")
PATHS = ("[x].txt", "a.txt", "b.txt", "sub", "sub/c.txt", "sub/deep", "sub/deep/d.txt")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return Context(str(tmp_path), PATHS)


def names(context: Context, *selected: str, unpack: bool = False) -> list[str]:
    target = io.BytesIO()
    context.write(selected, target, unpack=unpack)
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert {(member.uid, member.gid, member.uname) for member in tar} <= {(0, 0, "")} or unpack
        return tar.getnames()


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("a.txt", ["a.txt"]),
        ("./a.txt", ["a.txt"]),
        ("/a.txt", ["a.txt"]),
        ("sub/", ["sub"]),
        ("sub/../a.txt", ["a.txt"]),
        (".", [""]),
        ("/", [""]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[ab].txt", ["a.txt", "b.txt"]),
        ("sub/*", ["sub/c.txt", "sub/deep"]),
        ("*/*.txt", ["sub/c.txt"]),
    ],
)
def test_sources_name_paths(context: Context, source: str, paths: list[str]):
    assert context.select(source) == paths


@pytest.mark.parametrize("source", ["c.txt", "*.md", "sub/c.txt/x", "s*/d.txt"])
def test_what_is_not_there_is_told(context: Context, source: str):
    with pytest.raises(ImageFault) as caught:
        context.select(source)
    assert caught.value.meaning == f"`{source}` is not in the build context"


def test_a_directory_whose_files_alone_belong_to_the_context_is_there(tmp_path: Path):
    assert Context(str(tmp_path), ["sub/deep/d.txt"]).select("sub") == ["sub"]


def test_files_go_by_their_names_and_directories_by_what_is_in_them(context: Context):
    assert names(context, "sub/c.txt", "sub/deep") == ["c.txt", "d.txt"]
    assert names(context, "sub") == ["c.txt", "deep", "deep/d.txt"]
    assert names(context, "") == list(PATHS)


def test_archives_are_unpacked_where_that_is_wanted(context: Context, tmp_path: Path):
    with tarfile.open(tmp_path / "in.tar.xz", "w:xz") as tar:
        tar.addfile(tarfile.TarInfo("inside/file"))
    assert context.is_archive("in.tar.xz")
    assert not context.is_archive("a.txt")
    assert names(context, "in.tar.xz", "a.txt", unpack=True) == ["inside/file", "a.txt"]
    assert names(context, "in.tar.xz") == ["in.tar.xz"]


def test_the_digest_is_that_of_what_is_selected(context: Context, tmp_path: Path):
    before = context.digest(["sub"]), context.digest(["a.txt"])
    (tmp_path / "sub/deep/d.txt").write_text("changed")
    assert context.digest(["sub"]) != before[0]
    assert context.digest(["a.txt"]) == before[1]


def test_links_are_copied_as_links(tmp_path: Path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    context = Context(str(tmp_path), ["dir", "link"])
    assert not context.is_directory("link")
    assert names(context, "link") == ["link"]


@pytest.mark.parametrize("source", ["https://x/y", "http://x", "git@github.com:a/b", "git://x/y"])
def test_nothing_is_downloaded(source: str):
    with pytest.raises(ImageFault, match="nothing is downloaded"):
        refuse_remote(["a", source])


def archive(*members: tarfile.TarInfo) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for member in members:
            tar.addfile(member)
    data.seek(0)
    return data


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


def test_of_a_directory_there_is_what_is_in_it():
    target = io.BytesIO()
    whole = archive(
        member("out", tarfile.DIRTYPE), member("out/a"), member("out/b", tarfile.LNKTYPE, "out/a"),
        member("out/c", tarfile.SYMTYPE, "out/a"),
    )  # fmt: skip
    assert without_top(whole, target)
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert [(found.name, found.linkname) for found in tar] == [("a", ""), ("b", "a"), ("c", "out/a")]


def test_a_file_is_there_by_itself():
    target = io.BytesIO()
    assert not without_top(archive(member("app")), target)
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert tar.getnames() == ["app"]


def packed(file: Path, mode: str, size: int = 100_000) -> bytes:
    """An archive with one file that cannot be compressed."""
    with tarfile.open(file, mode) as tar:
        info = tarfile.TarInfo("file")
        info.size = size
        tar.addfile(info, io.BytesIO(os.urandom(size)))
    return file.read_bytes()


def test_a_link_to_an_archive_is_copied_as_a_link(tmp_path: Path):
    outside = tmp_path / "outside.tar"
    packed(outside, "w")
    directory = tmp_path / "context"
    directory.mkdir()
    packed(directory / "inside.tar", "w")
    (directory / "out.tar").symlink_to(outside)
    (directory / "in.tar").symlink_to("inside.tar")
    context = Context(str(directory), ["in.tar", "inside.tar", "out.tar"])
    assert [context.is_archive(name) for name in ("in.tar", "inside.tar", "out.tar")] == [False, True, False]
    target = io.BytesIO()
    context.write(["in.tar", "out.tar"], target, unpack=True)
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert [(found.name, found.issym(), found.linkname) for found in tar] == [
            ("in.tar", True, "inside.tar"),
            ("out.tar", True, str(outside)),
        ]


@pytest.mark.parametrize("unpack", [True, False])
def test_nothing_is_taken_from_behind_a_link_that_leads_out(tmp_path: Path, unpack: bool):
    (tmp_path / "outside").mkdir()
    packed(tmp_path / "outside" / "a.tar", "w")
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "link").symlink_to("../outside")
    context = Context(str(tmp_path / "context"), ["link", "link/a.tar"])

    def write(path: str) -> None:
        context.write([path], io.BytesIO(), unpack=unpack)

    for act in (context.is_archive, context.is_directory, write):
        with pytest.raises(ImageFault) as caught:
            act("link/a.tar")
        assert caught.value.meaning == "`link/a.tar` lies behind a link that leads out of the build context"


CUT_OFF = [
    *((mode, left) for mode in ("w", "w:gz", "w:bz2", "w:xz") for left in (0.9, 0.5)),
    ("w", 0.01),
    ("w:gz", 0.001),
]


@pytest.mark.parametrize(("mode", "left"), CUT_OFF)
def test_an_archive_that_is_cut_off_is_told(tmp_path: Path, mode: str, left: float):
    # Of bzip2, nothing is to be had of a block of 900 kB that is not there as a whole.
    whole = packed(tmp_path / "x.tar", mode, 3_000_000 if mode == "w:bz2" else 100_000)
    (tmp_path / "x.tar").write_bytes(whole[: int(len(whole) * left)])
    with pytest.raises(ImageFault) as caught:
        Context(str(tmp_path), ["x.tar"]).write(["x.tar"], io.BytesIO(), unpack=True)
    assert caught.value.meaning.startswith("the archive `x.tar` cannot be unpacked: ")
    assert caught.value.remedy == "is it there as a whole?"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_damaged_archive_is_told(tmp_path: Path, mode: str):
    whole = packed(tmp_path / "x.tar", mode)
    middle = len(whole) // 2
    context = Context(str(tmp_path), ["x.tar"])
    for start in (20, 300, 520, middle):
        (tmp_path / "x.tar").write_bytes(whole[:start] + b"\xff" * 200 + whole[start + 200 :])
        with suppress(ImageFault):
            context.write(["x.tar"], io.BytesIO(), unpack=True)


@pytest.mark.parametrize("source", ["[z-a]", "a[", "*[]"])
def test_a_source_that_is_no_pattern_is_told(context: Context, source: str):
    with pytest.raises(ImageFault) as caught:
        context.select(source)
    assert caught.value.meaning.startswith(f"`{source}` is no pattern: ")
    assert caught.value.remedy == "write `[[]` for a `[` in a name"


def test_a_name_with_brackets_is_found(context: Context):
    assert context.select("[[]x].txt") == ["[x].txt"]
