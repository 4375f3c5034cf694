"""What a `.dockerignore` leaves out, compared with what Docker's SDK makes of it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_enclave.errors import PackageError
from pytest_enclave.package.context import context_paths
from pytest_enclave.package.ignoring import Ignored


def left_out(text: str, path: str) -> bool:
    known = Ignored.of(text, ".dockerignore")
    for name in path.split("/"):
        known = known.below(name)
    return known.itself


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", "a"),
        ("a", "a/b/c"),
        ("/a/", "a"),
        ("./a//b/../c", "a/c"),
        ("../a", "a"),
        (" a ", "a"),
        ("*/temp*", "dir/temp.txt"),
        ("*/*/temp*", "a/b/temp"),
        ("temp?", "tempa"),
        ("**", "a"),
        ("**/*.go", "x.go"),
        ("**/*.go", "a/b/x.go"),
        ("**/a", "x/a/y"),
        ("a/**", "a/b"),
        ("a/**/z", "a/z"),
        ("a/**/z", "a/b/c/z"),
        ("*.md\n!README.md\nREADME*", "README.md"),
        ("[a-c]", "b"),
        (" #a", "#a"),
        ("a\r\nb".replace("\r", ""), "b"),
    ],
)
def test_what_is_left_out(text: str, path: str):
    assert left_out(text, path)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "a"),
        ("#a", "a"),
        ("/\n.\n!", "a"),
        ("a", "A"),
        ("a", "b/a"),
        ("a*", "b/ab"),
        ("*/temp*", "temp"),
        ("temp?", "temp"),
        ("a/**", "a"),
        ("a/**/z", "a/b/zz"),
        ("*.md\n!README.md", "README.md"),
        ("a\n!a/b", "a/b/c"),
        ("**\n! x/*.py", "x/y.py"),
    ],
)
def test_what_is_not(text: str, path: str):
    assert not left_out(text, path)


def test_a_directory_is_passed_over_where_nothing_in_it_can_be_taken_back():
    def wholly(text: str, name: str = "a") -> bool:
        return Ignored.of(text, "f").below(name).wholly

    assert wholly("*")
    assert wholly("*\n!b/c")
    assert not wholly("*\n!a/b")
    assert not wholly("*\n!**/c")
    assert not wholly("b")


NAMES = st.sampled_from(["a", "b", "ab", "a.md", "b.md", ".x"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PARTS = st.sampled_from(["a", "b", "ab", "*", "a*", "*.md", "?", "?b", "[ab]", "[a-b]*", "."])
PATTERNS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
TAKEN_BACK = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "!" + "/".join(parts))
DEEP = st.builds("{}/{}".format, st.sampled_from(["**", "a/**", "*/**"]), PATTERNS)


def same(paths: list[str], patterns: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for path in ["Dockerfile", *paths]:
            file = directory / path
            if not file.exists() and not any(above.is_file() for above in file.parents):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        (directory / ".dockerignore").write_text("\n".join(patterns))
        expected = exclude_paths(name, list(patterns), "Dockerfile")
        assert context_paths(directory, "Dockerfile", "ctx") == sorted(expected)


@settings(deadline=None)
@given(st.lists(PATHS, max_size=8), st.lists(PATTERNS | TAKEN_BACK, max_size=4))
def test_ordinary_patterns_mean_what_they_mean_to_docker(paths: list[str], patterns: list[str]):
    same(paths, patterns)


@settings(deadline=None)
@given(st.lists(PATHS, max_size=8), st.lists(PATTERNS | DEEP, max_size=4))
def test_patterns_for_any_depth_mean_what_they_mean_to_docker(paths: list[str], patterns: list[str]):
    same(paths, patterns)


def test_no_pattern_takes_long():
    began = time.monotonic()
    assert not left_out("*a" * 14 + "*b", "a" * 60)
    assert not left_out("**/a/" * 14 + "b", "/".join("a" * 60))
    assert not left_out("**/*a/" * 14 + "b", "/".join(["a" * 60] * 60))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n  [z-a]\n", "api/.dockerignore:2:3: `[z-a]` is no pattern: `z-a` runs backwards"),
        ("!x/[a", "api/.dockerignore:1:2: `x/[a` is no pattern: a `]` is missing"),
    ],
)
def test_a_line_that_means_nothing_is_told(text: str, said: str):
    with pytest.raises(PackageError) as caught:
        Ignored.of(text, "api/.dockerignore")
    assert str(caught.value) == said
    assert caught.value.remedy == "write `[[]` for a `[` in a name"
