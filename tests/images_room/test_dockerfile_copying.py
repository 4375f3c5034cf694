"""What `COPY` and `ADD` take from a build context."""

from __future__ import annotations

import io
import tarfile
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
