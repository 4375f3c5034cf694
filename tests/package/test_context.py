"""Build contexts: what belongs to them, and when their digest changes."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.context import context_paths, read_build_file, read_context
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
    assert context_paths(context, "Dockerfile", "ctx") == [
        "Dockerfile",
        "app",
        "app/deep",
        "app/deep/x.py",
        "app/main.py",
        "notes.md",
    ]


def test_what_is_ignored_does_not(context: Path):
    write(context, {".dockerignore": "# comment\n\n*.md\n app/deep \n"})
    assert context_paths(context, "Dockerfile", "ctx") == [".dockerignore", "Dockerfile", "app", "app/main.py"]


def test_exceptions_are_taken_back_in(context: Path):
    write(context, {".dockerignore": "**\n!app/deep/*.py\n"})
    assert context_paths(context, "Dockerfile", "ctx") == [".dockerignore", "Dockerfile", "app/deep/x.py"]


def test_the_build_file_belongs_to_it_whatever_is_ignored(context: Path):
    write(context, {".dockerignore": "*\n", "docker/Api": "FROM b"})
    assert "docker/Api" in context_paths(context, "docker/Api", "ctx")


def test_links_to_directories_are_links(context: Path):
    (context / "link").symlink_to("app")
    assert "link" in context_paths(context, "Dockerfile", "ctx")
    assert "link/main.py" not in context_paths(context, "Dockerfile", "ctx")


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


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/dev/zero", "`.dockerignore` leads out of `ctx`, to /dev/zero"),
        ("/etc/passwd", "`.dockerignore` leads out of `ctx`, to /etc/passwd"),
        ("app", "`ctx/.dockerignore` is a directory, where a file is needed"),
    ],
)
def test_what_is_ignored_is_read_from_a_file_of_the_context_alone(context: Path, target: str, said: str):
    (context / ".dockerignore").symlink_to(target)
    assert refusal(context, "Dockerfile")[0] == said


def test_a_pipe_that_says_what_is_ignored_is_refused(context: Path):
    os.mkfifo(context / ".dockerignore")
    said = "`ctx/.dockerignore` is neither a file nor a directory, but a device, pipe or socket"
    assert refusal(context, "Dockerfile")[0] == said


def test_a_large_file_of_what_is_ignored_is_refused(context: Path):
    write(context, {".dockerignore": ""})
    os.truncate(context / ".dockerignore", 64 * 1024**2 + 1)
    assert refusal(context, "Dockerfile")[0].startswith("`ctx/.dockerignore` is larger than 64 MiB")


def test_what_is_ignored_may_be_a_link_in_the_context(context: Path):
    write(context, {"lists/ignored": "*.md\nlists"})
    (context / ".dockerignore").symlink_to("lists/ignored")
    assert context_paths(context, "Dockerfile", "ctx")[0] == ".dockerignore"
    assert not {"notes.md", "lists"} & {*context_paths(context, "Dockerfile", "ctx")}


def test_a_line_of_what_is_ignored_that_means_nothing_is_told(context: Path):
    write(context, {".dockerignore": "a\n[z-a]\n"})
    with pytest.raises(PackageError) as caught:
        read_context(context, "Dockerfile", "ctx")
    assert str(caught.value) == "ctx/.dockerignore:2:1: `[z-a]` is no pattern: `z-a` runs backwards"


def test_a_name_cannot_make_ignoring_take_long(context: Path):
    write(context, {".dockerignore": "*a" * 14 + "*b", "a" * 60: ""})
    assert "a" * 60 in context_paths(context, "Dockerfile", "ctx")


def test_what_stands_below_a_directory_that_is_left_out_is_taken_back(context: Path):
    write(context, {".dockerignore": "app\n!**/*.py\n"})
    assert context_paths(context, "Dockerfile", "ctx") == [
        *(".dockerignore", "Dockerfile", "app/deep/x.py", "app/main.py", "notes.md"),
    ]


def test_directories_may_be_deep(context: Path):
    (context / "/".join("d" * 300)).mkdir(parents=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        paths = context_paths(context, "Dockerfile", "ctx")
    finally:
        sys.setrecursionlimit(limit)
    assert len(paths) == 306


def test_the_build_file_that_is_checked_is_the_one_that_is_read(context: Path):
    write(context, {"other/Dockerfile": "FROM other", "other/deep/x": ""})
    (context / "link").symlink_to("other/deep")
    assert read_build_file(context, "link/../Dockerfile", "ctx") == "FROM a"
    (context / "Dockerfile").unlink()
    assert refusal(context, "link/../Dockerfile")[0].startswith("`link/../Dockerfile` does not exist in `ctx`")


@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/zero"])
def test_a_build_file_that_became_a_link_out_of_the_context_is_not_read(context: Path, target: str):
    (context / "Dockerfile").unlink()
    (context / "Dockerfile").symlink_to(target)
    with pytest.raises(PackageError, match=f"`Dockerfile` leads out of `ctx`, to {target}"):
        read_build_file(context, "Dockerfile", "ctx")


def test_a_build_file_is_a_regular_one_of_a_sane_size(context: Path):
    os.truncate(context / "Dockerfile", 64 * 1024**2 + 1)
    with pytest.raises(PackageError, match="`ctx/Dockerfile` is larger than 64 MiB"):
        read_build_file(context, "Dockerfile", "ctx")
    (context / "Dockerfile").unlink()
    os.mkfifo(context / "Dockerfile")
    with pytest.raises(PackageError, match="`Dockerfile` in `ctx` is not a file"):
        read_build_file(context, "Dockerfile", "ctx")


def test_bytes_that_are_not_utf_8_are_an_error_only_where_that_is_wanted(context: Path):
    (context / "Dockerfile").write_bytes(b"FROM a\n# caf\xe9\n")
    assert read_build_file(context, "Dockerfile", ".", strict=False) == "FROM a\n# caf\ufffd\n"
    with pytest.raises(PackageError) as caught:
        read_build_file(context, "Dockerfile", ".")
    assert str(caught.value) == "Dockerfile:2:6: byte 0xe9 at offset 12 is not UTF-8"


def test_what_a_build_file_is_a_link_to_belongs_to_the_context(context: Path):
    write(context, {"docker/Api": "FROM b", "docker/Other": "", ".dockerignore": "docker"})
    (context / "Api").symlink_to("docker/Api")
    paths = context_paths(context, "Api", "ctx")
    assert {"Api", "docker/Api"} <= {*paths}
    assert "docker/Other" not in paths
    before = digest(context, "Api")
    write(context, {"docker/Api": "FROM c"})
    assert digest(context, "Api") != before
