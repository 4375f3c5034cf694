"""Locators, and that none leads out of its package (behaviour.md §3.4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.locators import absolute
from pytest_enclave.package.package import Package

OWN = "github.com/a/b"


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
        ("github.com/a/bc/x.star", "main.star", "github.com/a/bc/x.star"),
        ("./y.star", "github.com/c/d/lib/x.star", "github.com/c/d/lib/y.star"),
        ("/y.star", "github.com/c/d/lib/x.star", "github.com/c/d/y.star"),
        ("../y.star", "github.com/c/d/lib/x.star", "github.com/c/d/y.star"),
    ],
)
def test_absolute(locator: str, caller: str, name: str) -> None:
    assert absolute(locator, caller, OWN) == name


@pytest.mark.parametrize(
    ("locator", "caller", "message", "remedy"),
    [
        ("../x.star", "main.star", "`../x.star` leads out of the package, above its root", ""),
        ("/../x.star", "src/main.star", "`/../x.star` leads out of the package", ""),
        ("..", "main.star", "`..` leads out of the package", ""),
        ("../../y", "github.com/c/d/lib/x.star", "`../../y` leads out of the repository `github.com/c/d`", ""),
        ("github.com/a/b/x.star", "main.star", "lies in this package itself", "write `/x.star`"),
        ("github.com/A/B/x.star", "main.star", "lies in this package itself", "write `/x.star`"),
        ("https://github.com/c/d/x.star", "main.star", "has a scheme", "write `github.com/c/d/x.star`"),
        ("gitlab.com/c/d/x.star", "main.star", "is not on github.com", ""),
        ("github.com/c", "main.star", "names no repository", ""),
        ("", "main.star", "the locator is an empty string", ""),
        ("a\0b", "main.star", "NUL", ""),
    ],
)
def test_refused(locator: str, caller: str, message: str, remedy: str) -> None:
    with pytest.raises(PackageError) as caught:
        absolute(locator, caller, OWN)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy


def test_links_that_lead_out_are_refused_and_others_followed(tmp_path: Path) -> None:
    root = tmp_path / "package"
    (root / "src").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (root / "src" / "real").write_text("r")
    (root / "inside").symlink_to("src/real")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to("loop")
    package = Package(main="main.star", name=OWN, root=root.resolve())
    assert package.find("./inside", "main.star").path == root.resolve() / "src" / "real"
    with pytest.raises(PackageError, match="leads out of package"):
        package.find("./outside", "main.star")
    with pytest.raises(PackageError):
        package.find("./loop", "main.star")


def test_a_missing_file_is_told_with_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PackageError) as caught:
        Package(main="main.star", name=OWN, root=tmp_path.resolve()).find("./config.jsn", "main.star")
    assert caught.value.remedy == "did you mean `config.json`, which lies beside it?"
