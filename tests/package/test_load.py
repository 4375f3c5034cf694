"""What can be named as a package, and how it is refused (behaviour.md rows 11, 45, 51, 52, 55)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Source

NAME = "name: github.com/a/b\n"


def package(root: Path, manifest: str = NAME, **files: str) -> Path:
    (root / "kurtosis.yml").write_text(manifest)
    for name, text in (files or {"main": "def run(plan): pass\n"}).items():
        (root / f"{name}.star").write_text(text)
    return root


def error_of(target: object) -> PackageError:
    with pytest.raises(PackageError) as caught:
        load(target)  # type: ignore[arg-type]
    return caught.value


def test_a_directory(tmp_path: Path) -> None:
    loaded = load(package(tmp_path, NAME + "description: text\nreplace:\n  github.com/c/d: ./d # here\n"))
    assert (loaded.name, loaded.main, loaded.root) == ("github.com/a/b", "main.star", tmp_path.resolve())


def test_a_script_inside_a_package_is_that_package_with_another_main_file(tmp_path: Path) -> None:
    package(tmp_path)
    (tmp_path / "tests").mkdir()
    script = tmp_path / "tests" / "api_test.star"
    script.write_text("x = 1\n")
    loaded = load(script)
    assert (loaded.name, loaded.main) == ("github.com/a/b", "tests/api_test.star")
    assert loaded.read_main()[0] == "x = 1\n"


def test_a_script_alone(tmp_path: Path) -> None:
    script = tmp_path / "alone.star"
    script.write_text("x = 1\n")
    loaded = load(script)
    assert (loaded.name, loaded.root, loaded.main, loaded.title) == (None, None, "alone.star", "script `alone.star`")


def test_text(tmp_path: Path) -> None:
    loaded = load(Source("x = 1\r\n", name="inline.star"))
    assert (loaded.main, loaded.read_main()) == ("inline.star", ("x = 1\n", None))


def test_no_such_path(tmp_path: Path) -> None:
    error = error_of("nope/nope")
    assert str(error) == "there is no package at nope/nope"
    assert error.remedy == f"the path is taken relative to {Path.cwd()}"


def test_no_manifest(tmp_path: Path) -> None:
    assert str(error_of(tmp_path)) == f"{tmp_path.resolve()} is not a package: it has no `kurtosis.yml`"


@pytest.mark.parametrize("row", [pytest.param(11, id="row-11")])
def test_no_main_file(tmp_path: Path, row: int) -> None:
    package(tmp_path, other="x = 1\n")
    assert str(error_of(tmp_path)) == f"package `github.com/a/b` has no `main.star` in {tmp_path.resolve()}"


def test_some_other_file(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("")
    assert "neither a package directory nor a `.star` file" in str(error_of(tmp_path / "x.py"))


@pytest.mark.parametrize(
    ("manifest", "message", "remedy"),
    [
        pytest.param("", "kurtosis.yml: `name` is missing", "github.com/author/repository", id="empty-file"),
        pytest.param("description: x\n", "kurtosis.yml: `name` is missing", "", id="no-name"),
        pytest.param("name: ''\n", "kurtosis.yml:1:7: `name` is empty", "", id="empty-name"),
        pytest.param(
            "name: github.com/a/b/\n",
            "kurtosis.yml:1:7: `name` ends with `/`",
            "write `name: github.com/a/b`",
            id="row-51-slash",
        ),
        pytest.param(
            "name: gitlab.com/a/b\n", "kurtosis.yml:1:7: `name` is `gitlab.com/a/b`, which", "", id="row-51-host"
        ),
        pytest.param(
            "name: github.com/a\n", "kurtosis.yml:1:7: `name` is `github.com/a`, which", "", id="row-51-parts"
        ),
        pytest.param(
            NAME + "nmae: x\n", "kurtosis.yml:2:1: unknown key `nmae`", "did you mean `name`?", id="row-55-unknown"
        ),
        pytest.param(NAME + NAME, "kurtosis.yml:2:1: the key `name` is there twice", "", id="row-55-twice"),
        pytest.param(
            NAME + "---\nname: x\n", "kurtosis.yml:2: a second YAML document begins here", "keep one", id="two"
        ),
        pytest.param("name: [x]\n", "kurtosis.yml:1:7: must be a string", "", id="row-55-type"),
        pytest.param(NAME + "replace: x\n", "kurtosis.yml:2:10: must be a mapping", "", id="row-55-replace"),
        pytest.param("- x\n", "kurtosis.yml:1:1: the file must hold keys with values", "", id="row-55-list"),
        pytest.param("name: [\n", "kurtosis.yml", "", id="row-55-yaml"),
    ],
)
def test_manifests(tmp_path: Path, manifest: str, message: str, remedy: str) -> None:
    error = error_of(package(tmp_path, manifest))
    assert str(error).startswith(message)
    assert remedy in error.remedy


def test_files_that_are_not_text_are_told_with_the_byte(tmp_path: Path) -> None:
    package(tmp_path)
    (tmp_path / "main.star").write_bytes(b"x = 1\ny = '\xc3\xa9\xff'\n")
    with pytest.raises(PackageError) as caught:
        load(tmp_path).read_main()
    assert str(caught.value) == "main.star:2:7: byte 0xff at offset 13 is not UTF-8"


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_an_empty_main_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(PackageError, match=r"`main\.star` is empty"):
        load(package(tmp_path, main=text)).read_main()


def test_a_directory_in_place_of_the_main_file(tmp_path: Path) -> None:
    package(tmp_path, other="")
    (tmp_path / "main.star").mkdir()
    with pytest.raises(PackageError, match=r"`main\.star` is a directory, where a file is needed"):
        load(tmp_path).read_main()


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert "is half a surrogate pair" in str(error_of(Source("x = '\ud800'")))


def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    package(tmp_path, other="")
    os.mkfifo(tmp_path / "main.star")
    with pytest.raises(PackageError, match="a device, pipe or socket"):
        load(tmp_path).read_main()
