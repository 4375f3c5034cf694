"""Locators, and that none leads out of its package (behaviour.md §3.4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.finding import Finder
from pytest_enclave.package.locators import Locator, parse
from pytest_enclave.package.package import Package

OWN = "github.com/a/b"


SIBLING = "github.com/c/d/lib/x.star"
VERSIONED = "github.com/c/d/lib/y.star@v1"


def names(locator: str, caller: str, tmp_path: Path) -> str:
    """What the file is called that a locator stands for; other repositories are wherever they are looked for."""
    for name in ("x.star", "lib/x.star", "src/x.star", "my.dir/x.star"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    finder = Finder(Package(main="main.star", name=OWN, root=tmp_path), lambda *_: tmp_path)
    for known in (SIBLING, VERSIONED):
        finder.find(known, "main.star")
    return finder.find(locator, caller).name


@pytest.mark.parametrize(
    ("locator", "caller", "name"),
    [
        ("./x.star", "main.star", "x.star"),
        ("x.star", "src/main.star", "src/x.star"),
        ("../x.star", "src/main.star", "x.star"),
        ("../lib/./x.star", "src/main.star", "lib/x.star"),
        ("/x.star", "src/deep/main.star", "x.star"),
        ("/", "main.star", "."),
        ("my.dir/x.star", "main.star", "my.dir/x.star"),
        ("github.com/c/d/x.star", "main.star", "github.com/c/d/x.star"),
        ("GitHub.com/c/d/x.star", "main.star", "GitHub.com/c/d/x.star"),
        ("github.com/c/d//a/../x.star", "main.star", "github.com/c/d/x.star"),
        ("github.com/a/bc/x.star", "main.star", "github.com/a/bc/x.star"),
        ("github.com/a/b/x.star", SIBLING, "x.star"),
        ("./y.star", SIBLING, "github.com/c/d/lib/y.star"),
        ("/y.star", SIBLING, "github.com/c/d/y.star"),
        ("../y.star", SIBLING, "github.com/c/d/y.star"),
        ("./@scope/y.star", SIBLING, "github.com/c/d/lib/@scope/y.star"),
        ("./z.star", VERSIONED, "github.com/c/d/lib/z.star@v1"),
    ],
)
def test_names(locator: str, caller: str, name: str, tmp_path: Path) -> None:
    assert names(locator, caller, tmp_path) == name


@pytest.mark.parametrize(
    ("locator", "caller", "message", "remedy"),
    [
        ("../x.star", "main.star", "`../x.star` leads out of the package, above its root", ""),
        ("/../x.star", "src/main.star", "`/../x.star` leads out of the package", ""),
        ("..", "main.star", "`..` leads out of the package", ""),
        ("../../y", SIBLING, "`../../y` leads out of the repository `github.com/c/d`", ""),
        ("github.com/a/b/x.star", "main.star", "lies in this package itself", "write `/x.star`"),
        ("github.com/A/B/x.star", "main.star", "lies in this package itself", "write `/x.star`"),
        ("github.com/a/b/x.star@v1", "main.star", "lies in this package itself", "write `/x.star`"),
        ("https://github.com/c/d/x.star", "main.star", "has a scheme", "write `github.com/c/d/x.star`"),
        ("gitlab.com/c/d/x.star", "main.star", "is not on github.com", ""),
        ("github.com/c", "main.star", "names no repository", ""),
        ("github.com/c/..", "main.star", "names no repository", ""),
        ("github.com/-c/d/x.star", "main.star", "names no repository", ""),
        ("github.com/c/d/../../x/y.star", "main.star", "leads out of the repository `github.com/c/d`", ""),
        ("github.com/c/d/x.star@", "main.star", "names no version after its `@`", ""),
        ("", "main.star", "the locator is an empty string", ""),
        ("a\0b", "main.star", "NUL", ""),
    ],
)
def test_refused(locator: str, caller: str, message: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError) as caught:
        names(locator, caller, tmp_path)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("locator", "readings"),
    [
        ("github.com/c/d/x.star@v1", [("x.star", "v1")]),
        ("github.com/c/d/x.star@foo/bar", [("x.star", "foo/bar")]),
        ("github.com/c/d@v1", [("", "v1")]),
        ("github.com/c/d@v1.2", [("", "v1.2")]),
        ("github.com/c/d@v1/x.star", [("x.star", "v1"), ("", "v1/x.star")]),
        (
            "github.com/c/d@v1/lib/x.star",
            [("x.star", "v1/lib"), ("", "v1/lib/x.star"), ("lib/x.star", "v1")],
        ),
    ],
)
def test_where_versions_end(locator: str, readings: list[tuple[str, str]]) -> None:
    assert list(parse(locator)) == [Locator("github.com/c/d", *reading) for reading in readings]


def test_links_that_lead_out_are_refused_and_others_followed(tmp_path: Path) -> None:
    root = tmp_path / "package"
    (root / "src").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (root / "src" / "real").write_text("r")
    (root / "inside").symlink_to("src/real")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to("loop")
    finder = Finder(Package(main="main.star", name=OWN, root=root.resolve()))
    assert finder.find("./inside", "main.star").path == root.resolve() / "src" / "real"
    with pytest.raises(PackageError, match="leads out of package"):
        finder.find("./outside", "main.star")
    with pytest.raises(PackageError):
        finder.find("./loop", "main.star")


def test_a_missing_file_is_told_with_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PackageError) as caught:
        Finder(Package(main="main.star", name=OWN, root=tmp_path.resolve())).find("./config.jsn", "main.star")
    assert caught.value.remedy == "did you mean `config.json`, which lies beside it?"
