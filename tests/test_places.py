"""Where this user's files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_enclave import places
from pytest_enclave.errors import EnclaveError


def place(**environ: str) -> Path:
    return places.directory(environ, "XDG_STATE_HOME", ".local/state", "to record enclaves")


def test_the_variable_counts_if_it_is_an_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place(XDG_STATE_HOME="/state", HOME="/home/me") == Path("/state")
    assert place(XDG_STATE_HOME="state", HOME="/home/me") == Path("/home/me/.local/state")
    assert place(HOME="/home/me") == Path("/home/me/.local/state")
    monkeypatch.setenv("HOME", "/home/of/this/process")
    assert place() == Path("/home/of/this/process/.local/state")


def test_without_a_home_directory_that_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def home(cls: type[Path]) -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", classmethod(home))
    with pytest.raises(EnclaveError) as caught:
        place()
    assert str(caught.value) == "there is no place to record enclaves: this user has no home directory"
    assert caught.value.remedy == "set XDG_STATE_HOME to the path of a directory that can be written"
    assert place(XDG_STATE_HOME="/state") == Path("/state")
