"""What few services ask for, on every engine with real services: users, and files that are moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import ServiceError
from tests.engine.engine_enclave import Enclave, Fork

IDS = "id -u && id -g"


@pytest.fixture
def artifact(enclave: Enclave, tmp_path: Path) -> str:
    """A files artifact with a file, a script and a directory."""
    directory = tmp_path / "artifact"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("moved")
    (directory / "sub" / "script").write_text("#!/bin/sh\necho ran\n")
    (directory / "sub" / "script").chmod(0o755)
    enclave.artifacts["files"] = directory
    return "files"


@pytest.mark.parametrize(("user", "ids"), [("1234:77", "1234\n77"), ("33", "33\n"), ("0:5", "0\n5")])
def test_a_user_counts_for_the_service_and_for_commands_in_it(enclave: Enclave, user: str, ids: str):
    enclave.up("s", user=user, cmd=("sh", "-c", f"({IDS}) > /tmp/own; sleep 1000000"))
    assert enclave.sh("s", IDS).startswith(ids.strip())
    assert enclave.sh("s", "cat /tmp/own") == enclave.sh("s", IDS)


def test_the_user_of_another_start_is_another_one(enclave: Enclave):
    enclave.up("s", user="1234")
    enclave.up("s", user="4321")
    assert enclave.sh("s", "id -u") == "4321"


def test_a_fork_keeps_user_and_moved_files(enclave: Enclave, fork: Fork, artifact: str):
    moved = {"/mnt/file": "/etc/own"}
    enclave.up("s", user="0:5", files={"/mnt": artifact}, moved=moved)
    enclave.sh("s", "echo -n changed > /etc/own")
    enclave.site.freeze()
    assert enclave.sh("s", f"cat /etc/own && echo && {IDS}") == "changed\n0\n5"
    assert fork(enclave).sh("s", f"cat /etc/own && echo && {IDS}") == "changed\n0\n5"


def test_moved_files_keep_their_rights_and_may_be_changed(enclave: Enclave, artifact: str):
    moved = {"/mnt/sub/script": "/usr/local/new/bin/script", "/mnt/file": "/etc/passwd"}
    enclave.up("s", files={"/mnt": artifact}, moved=moved)
    assert enclave.sh("s", "/usr/local/new/bin/script; cat /etc/passwd; ls /mnt") == "ran\nmovedfile\nsub"
    enclave.sh("s", "echo > /etc/passwd")


def test_a_moved_file_is_there_before_the_service_starts(enclave: Enclave, artifact: str):
    command = ("sh", "-c", "cat /etc/own > /look; mv /look /seen; sleep 1000000")
    enclave.up("s", files={"/mnt": artifact}, moved={"/mnt/file": "/etc/own"}, cmd=command)
    assert enclave.sh("s", "until [ -e /seen ]; do sleep 0.01; done; cat /seen") == "moved"


def test_a_moved_file_is_new_when_the_service_is_replaced_and_not_when_it_starts_again(enclave: Enclave, artifact: str):
    settings = {"files": {"/mnt": artifact}, "moved": {"/mnt/file": "/etc/own"}}
    enclave.up("s", **settings)
    enclave.sh("s", "echo -n changed > /etc/own")
    enclave.site.act("s", Action.STOP)
    enclave.site.act("s", Action.START)
    assert enclave.sh("s", "cat /etc/own") == "changed"
    enclave.up("s", **settings)
    assert enclave.sh("s", "cat /etc/own") == "moved"


@pytest.mark.parametrize("path", ["/mnt/sub", "/mnt/none", "/mnt/../mnt/none"])
def test_what_is_no_file_cannot_be_moved(enclave: Enclave, artifact: str, path: str):
    outcome = enclave.start(enclave.spec("s", files={"/mnt": artifact}, moved={path: "/x"}))["s"]
    assert isinstance(outcome, ServiceError)
    assert outcome.message == f'service "s" did not start: there is no file "{path}" to be moved'
    assert enclave.site.observe() == {}
