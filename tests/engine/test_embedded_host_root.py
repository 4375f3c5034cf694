"""Services from the machine's own root directory: its programs, none of its data, and nothing written to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded import roots
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.embedded.roots import secrets_of_the_machine
from pytest_enclave.engine.protocol import Action, Exit
from pytest_enclave.linux.identity import own_map
from tests.engine.engine_enclave import Enclave

HOST = "host:/"


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    """The embedded engine alone."""
    engine = EmbeddedEngine()
    yield engine
    assert engine.close() == []


@pytest.fixture
def enclave(engine: EmbeddedEngine, open_enclave: Callable[[EmbeddedEngine], Enclave]) -> Enclave:
    """A new enclave with one such service."""
    enclave = open_enclave(engine)
    enclave.up("host", HOST)
    return enclave


def test_programs_of_the_machine_run(enclave: Enclave):
    program = "import json, ssl, sqlite3, ctypes; print(json.dumps([1]))"
    assert enclave.sh("host", f"python3 -c '{program}'") == "[1]"
    assert enclave.sh("host", "cat /etc/os-release") == Path("/etc/os-release").read_text().strip()


def test_homes_and_changing_data_are_not_shown(enclave: Enclave):
    assert enclave.sh("host", "find /root /home /run /tmp /mnt /media /srv -mindepth 1") == ""
    assert enclave.sh("host", "find /var -type f") == ""
    shown = set(enclave.sh("host", "ls -A /").split())
    assert shown <= {
        *("bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr"),
        *("dev", "home", "media", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "var"),
    }


def test_what_not_everybody_may_read_is_read_by_no_service(enclave: Enclave):
    shadow = enclave.site.exec("host", ["cat", "/etc/shadow"], None)
    if own_map().kind == "root":
        assert (shadow.code, shadow.output) == (0, "")
        assert enclave.site.exec("host", ["sh", "-c", "echo root:: > /etc/shadow; rm /etc/shadow"], None).code != 0
    else:
        assert "Permission denied" in shadow.output
    readable = enclave.sh("host", "find /etc -type f ! -perm -o=r -size +0 -readable 2>/dev/null || true")
    assert readable == ""


def test_secrets_are_found_by_their_modes(tmp_path: Path):
    for name, mode in (("open", 0o644), ("closed", 0o640), ("directory/below", 0o644)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    (tmp_path / "directory").chmod(0o750)
    found = secrets_of_the_machine((str(tmp_path), "/no/such/directory"))
    if own_map().kind == "root":
        assert set(found) == {(str(tmp_path / "closed"), False), (str(tmp_path / "directory"), True)}
    else:
        assert found == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="others cannot read them anyway")
def test_of_a_large_directory_what_is_near_the_top_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a/b/c/closed", "a/closed", "closed"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(0o600)
    for number in range(20):
        (tmp_path / "a" / "b" / str(number)).touch(0o644)
    monkeypatch.setattr(roots, "MOST_LOOKED_AT", 10)
    assert set(secrets_of_the_machine((str(tmp_path),))) == {
        (str(tmp_path / "closed"), False),
        (str(tmp_path / "a/closed"), False),
    }


@pytest.fixture
def closed() -> Iterator[list[Path]]:
    """Files and directories that people put on this machine, and others may not read."""
    name = f"pytest-enclave-{os.getpid()}"
    tops = [Path(top, name) for top in ("/opt", "/usr/local/share")]
    for top in tops:
        (top / "directory").mkdir(parents=True)
        (top / "directory").chmod(0o750)
        for file, mode in (("key", 0o640), ("directory/key", 0o644), ("open", 0o644)):
            (top / file).write_text(file)
            (top / file).chmod(mode)
    secrets_of_the_machine.cache_clear()
    yield tops
    secrets_of_the_machine.cache_clear()
    for top in tops:
        shutil.rmtree(top)


@pytest.mark.skipif(os.geteuid() != 0, reason="others cannot read them anyway")
def test_nor_is_what_is_closed_in_other_directories_that_people_fill(
    closed: list[Path], engine: EmbeddedEngine, open_enclave: Callable[[EmbeddedEngine], Enclave]
):
    enclave = open_enclave(engine)
    enclave.up("host", HOST)
    for top in closed:
        assert enclave.sh("host", f"cat {top}/open {top}/key") == "open"
        assert enclave.sh("host", f"ls -A {top}/directory") == ""


def test_what_machines_keep_of_their_services_is_not_there(enclave: Enclave):
    assert enclave.sh("host", "find /var/lib /srv -mindepth 1") == ""


def test_writes_stay_inside(enclave: Enclave):
    name = f"written-{os.getpid()}"
    places = ["/", "/root", "/tmp", "/home", "/var/lib", "/run", "/srv", "/etc", "/usr", "/opt"]
    if own_map().kind == "root":
        # Others may not change what is the machine's root's.
        places += ["/usr/bin", "/usr/local"]
    for place in places:
        enclave.sh("host", f"echo x >{place}/{name}")
        assert not os.path.exists(f"{place}/{name}")
    if own_map().kind == "root":
        before = Path("/etc/passwd").read_bytes()
        enclave.sh("host", "echo changed >/etc/passwd; rm /etc/os-release /usr/bin/env")
        assert Path("/etc/passwd").read_bytes() == before
        assert Path("/etc/os-release").exists()
        assert Path("/usr/bin/env").exists()
    else:
        assert enclave.site.exec("host", ["sh", "-c", f"echo x >/usr/bin/{name}"], None).code != 0


def test_services_do_not_see_each_others_writes(enclave: Enclave):
    enclave.up("other", HOST)
    enclave.sh("host", "echo one >/mine; echo one >/tmp/mine")
    assert enclave.site.exec("other", ["cat", "/mine", "/tmp/mine"], None).code == 1
    enclave.sh("other", "echo two >/mine")
    assert enclave.sh("host", "cat /mine") == "one"


def test_files_live_on_when_it_is_started_again_frozen_and_forked(enclave: Enclave):
    where = ["/mine", "/tmp/mine", "/var/lib/mine", *(["/etc/mine"] if own_map().kind == "root" else [])]
    for path in where:
        enclave.sh("host", f"echo 1 >{path}")
    enclave.site.act("host", Action.STOP)
    enclave.site.act("host", Action.START)
    for path in where:
        enclave.sh("host", f"echo 2 >>{path}")
    enclave.site.freeze()
    copy = enclave.fork()
    try:
        for path in where:
            assert copy.sh("host", f"cat {path}").split() == ["1", "2"]
            enclave.sh("host", f"echo 3 >>{path}")
            copy.sh("host", f"echo 4 >>{path}")
            assert enclave.sh("host", f"cat {path}").split() == ["1", "2", "3"]
        copy.site.freeze()
        second = copy.fork()
        try:
            assert copy.site.close() == []
            for path in where:
                assert second.sh("host", f"cat {path}").split() == ["1", "2", "4"]
        finally:
            assert second.site.close() == []
    finally:
        assert copy.site.close() == []


def test_a_replaced_service_begins_anew(enclave: Enclave):
    enclave.sh("host", "echo 1 >/mine")
    enclave.up("host", HOST)
    assert enclave.site.exec("host", ["cat", "/mine"], None).code == 1


def test_a_command_of_its_own_ends_like_any_other(enclave: Enclave):
    enclave.up("short", HOST, entrypoint=("sh", "-c", "echo said; exit 3"))
    assert enclave.site.pause(5, watching="short") == Exit(3)
    assert [line.text for line in enclave.site.logs("short")] == ["said"]
