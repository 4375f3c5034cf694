"""Where the cache is, and what becomes of a user who has no place for one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_enclave import cache
from pytest_enclave.errors import EnclaveError
from pytest_enclave.images import store
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.language.kept import KeptModules
from pytest_enclave.package.git import repositories
from pytest_enclave.package.locators import Locator
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Interpretations, Request

TEXT = "def run(plan):\n    return 7\n" + "# padding\n" * 60


@pytest.mark.parametrize(
    ("environ", "base"),
    [
        ({"HOME": "/home/me"}, "/home/me/.cache"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/var/mine"}, "/var/mine"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "relative"}, "/home/me/.cache"),
        ({"XDG_CACHE_HOME": "/var/mine"}, "/var/mine"),
    ],
)
def test_everything_is_kept_in_one_place(environ: Mapping[str, str], base: str) -> None:
    root = Path(base, "pytest-enclave")
    assert cache.directory(environ, "x") == root / "x"
    assert store.default_root(environ) == root / "images"
    assert repositories.default_root(environ) == root / "git"
    assert KeptModules.of(environ)._root == root / "starlark"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_is_told_what_to_set() -> None:
    with pytest.raises(EnclaveError) as caught:
        cache.directory({}, "images")
    assert caught.value.message == "there is no place for the cache of images: this user has no home directory"
    assert caught.value.remedy == "set XDG_CACHE_HOME to the path of a directory that can be written"


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_interprets_packages_and_keeps_nothing() -> None:
    assert KeptModules.of({})._root is None
    assert Interpretations().interpret(Request.of(Source(TEXT)), Registry()).output == 7


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_cannot_fetch() -> None:
    others = repositories.Repositories.of({})
    with pytest.raises(EnclaveError, match="there is no place for the cache of git"):
        others.checkout([Locator("github.com/a/a")])
