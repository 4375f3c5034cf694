"""Build contexts: what belongs to them, and when their digest changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.context import context_paths, read_context
from pytest_enclave.package.files import unchanged


@pytest.fixture
def context(tmp_path: Path) -> Path:
    write(tmp_path, {"Dockerfile": "FROM a", "app/main.py": "1", "app/deep/x.py": "2", "notes.md": "3"})
    return tmp_path


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def digest(directory: Path, build_file: str = "Dockerfile") -> str:
    return read_context(directory, build_file, "ctx")[0]


def test_everything_below_belongs_to_it(context: Path):
    assert context_paths(context, "Dockerfile") == [
        "Dockerfile",
        "app",
        "app/deep",
        "app/deep/x.py",
        "app/main.py",
        "notes.md",
    ]


def test_what_is_ignored_does_not(context: Path):
    write(context, {".dockerignore": "# comment\n\n*.md\n app/deep \n"})
    assert context_paths(context, "Dockerfile") == [".dockerignore", "Dockerfile", "app", "app/main.py"]


def test_exceptions_are_taken_back_in(context: Path):
    write(context, {".dockerignore": "**\n!app/deep/*.py\n"})
    assert context_paths(context, "Dockerfile") == [".dockerignore", "Dockerfile", "app/deep/x.py"]


def test_the_build_file_belongs_to_it_whatever_is_ignored(context: Path):
    write(context, {".dockerignore": "*\n", "docker/Api": "FROM b"})
    assert "docker/Api" in context_paths(context, "docker/Api")


def test_links_to_directories_are_links(context: Path):
    (context / "link").symlink_to("app")
    assert "link" in context_paths(context, "Dockerfile")
    assert "link/main.py" not in context_paths(context, "Dockerfile")


@pytest.mark.parametrize("change", [{"app/main.py": "x"}, {"new": ""}, {"Dockerfile": "FROM b"}])
def test_a_change_is_another_digest(context: Path, change: dict[str, str]):
    before = digest(context)
    write(context, change)
    assert digest(context) != before


def test_a_right_to_execute_is_content_and_a_time_is_not(context: Path):
    before = digest(context)
    os.utime(context / "notes.md", (1, 1))
    assert digest(context) == before
    (context / "notes.md").chmod(0o755)
    assert digest(context) != before


def test_what_is_ignored_may_change(context: Path):
    write(context, {".dockerignore": "*.md\n"})
    before = digest(context)
    write(context, {"notes.md": "other", "more.md": ""})
    assert digest(context) == before


def test_the_same_content_elsewhere_has_the_same_digest(context: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    write(other, {"notes.md": "3", "app/deep/x.py": "2", "app/main.py": "1", "Dockerfile": "FROM a"})
    assert digest(other) == digest(context)


@pytest.mark.parametrize("change", [{"app/main.py": "x!"}, {"app/deep/new": ""}, {".dockerignore": "*.md"}])
def test_a_change_is_seen_in_the_states(context: Path, change: dict[str, str]):
    _, states = read_context(context, "Dockerfile", "ctx")
    assert unchanged(states)
    write(context, change)
    assert not unchanged(states)


def test_links_that_lead_out_are_taken_as_they_are(context: Path):
    (context / "out").symlink_to("/etc/passwd")
    before = digest(context)
    (context / "out").unlink()
    (context / "out").symlink_to("/etc/group")
    assert digest(context) != before


def refusal(directory: Path, build_file: str) -> tuple[str, str]:
    with pytest.raises(PackageError) as caught:
        read_context(directory, build_file, "ctx")
    return caught.value.message, caught.value.remedy


def test_what_is_no_context_is_refused(context: Path):
    assert refusal(context / "notes.md", "Dockerfile") == (
        "`ctx` is not a directory",
        "name the directory that the image is built from",
    )
    assert refusal(context, "Dockerfil") == (
        "`Dockerfil` does not exist in `ctx`",
        "did you mean `Dockerfile`, which lies beside it?",
    )
    assert refusal(context, "app")[0] == "`app` in `ctx` is not a file"


def test_a_build_file_outside_of_the_context_is_refused(context: Path):
    write(context, {"ctx/a": ""})
    message, _ = refusal(context / "ctx", "../Dockerfile")
    assert message == f"`../Dockerfile` leads out of `ctx`, to {context}/Dockerfile"
    (context / "ctx" / "Dockerfile").symlink_to("../Dockerfile")
    assert "leads out of `ctx`" in refusal(context / "ctx", "Dockerfile")[0]


def test_pipes_are_refused(context: Path):
    os.mkfifo(context / "pipe")
    assert refusal(context, "Dockerfile")[0] == "`ctx` holds `pipe`, a device, pipe or socket"
