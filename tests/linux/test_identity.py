from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_enclave.linux import identity
from pytest_enclave.linux.identity import IdMap, Range, subordinate_ids
from tests.linux.child import run

SINGLE = IdMap("single", [Range(0, os.geteuid(), 1)], [Range(0, os.getegid(), 1)])


def test_root_maps_all_ids_to_themselves(as_root):
    told = run("""
        ids = identity.own_map()
        print(ids.kind, open("/proc/self/uid_map").read().split() == str(ids.uids[0]).split(), flush=True)
        identity.run_mapped(ids, ["sh", "-c", "id -u; cat /proc/self/uid_map; cat /proc/self/setgroups"])
    """)
    kind, _, rest = told.partition("\n")
    assert kind.startswith("root")
    assert rest.split()[0] == "0"
    assert rest.split()[-1] == "allow"
    assert rest.split()[1:4] == Path("/proc/self/uid_map").read_text().split()[:1] * 2 + ["4294967295"]


def test_root_in_a_namespace_maps_what_is_mapped_there(inside):
    told = inside("""
        ids = identity.own_map()
        mine = [tuple(map(int, line.split())) for line in open("/proc/self/uid_map")]
        got = [(each.inside, each.outside, each.count) for each in ids.uids]
        print(ids.kind, got == [(a, a, c) for a, _, c in mine], flush=True)
        identity.run_mapped(ids, ["id", "-u"])
    """)
    assert told.split() == ["root", "True", "0"]


def test_a_user_with_a_range_gets_it_behind_the_own_id(user_of_range):
    told = run(
        """
        ids = identity.own_map()
        print(ids.kind, flush=True)
        script = "import os; os.setgroups([]); os.setgid(999); os.setuid(999); print(os.getuid(), os.getgid())"
        identity.run_mapped(ids, ["sh", "-c", "id -u; cat /proc/self/uid_map"])
        identity.run_mapped(ids, [sys.executable, "-I", "-S", "-c", script])
        """,
        user_of_range,
    ).split()
    start = subordinate_ids("/etc/subuid", user_of_range).outside
    assert told == ["range", "0", "0", str(user_of_range), "1", "1", str(start), "65536", "999", "999"]


def test_a_user_without_a_range_is_root_as_a_single_id(plain_user):
    told = run(
        """
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        ids = identity.own_map()
        print(ids, flush=True)
        identity.run_mapped(ids, ["sh", "-c", "id -u; id -g; cat /proc/self/setgroups"])
        """,
        plain_user,
    )
    first, *rest = told.splitlines()
    assert first.startswith(f"single: uids (0 {plain_user} 1,)")
    assert rest == ["0", "0", "deny"]


@pytest.mark.parametrize("missing", ["newuidmap", "newgidmap"])
def test_without_either_helper_there_is_a_single_id(monkeypatch, missing):
    monkeypatch.setattr(identity.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(identity, "subordinate_ids", lambda file, uid: Range(1, 100000, 65536))
    monkeypatch.setattr(identity, "_is_privileged", lambda path: True)
    assert identity.own_map().kind == "range"
    monkeypatch.setattr(identity, "_is_privileged", lambda path: not path.endswith(missing))
    monkeypatch.setattr(identity, "helper", lambda name: f"/usr/bin/{name}")
    assert identity.own_map().kind == "single"


def test_a_helper_without_privileges_is_none(monkeypatch, tmp_path):
    (tmp_path / "newuidmap").write_text("#!/bin/sh\n")
    (tmp_path / "newuidmap").chmod(0o755)
    assert not identity._is_privileged(str(tmp_path / "newuidmap"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert identity.helper("newuidmap") == str(tmp_path / "newuidmap")
    monkeypatch.setattr(identity, "HELPER_DIRECTORIES", ())
    assert identity.helper("newgidmap") is None


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("somebody:100000:65536\nme:200000:65536\n", 200000),
        ("me:300000:70000\n", 300000),
        ("4321:400000:65536\n", 400000),
        ("me:100000:1000\nme:500000:65536\n", 500000),
        ("me:100000:1000\n", None),
        ("# comment\n\nme:x:65536\nme\n", None),
        ("", None),
    ],
)
def test_ranges_are_found_by_name_or_number(monkeypatch, tmp_path, text, start):
    monkeypatch.setattr(identity, "_user_name", lambda uid: "me")
    (tmp_path / "subuid").write_text(text)
    found = subordinate_ids(str(tmp_path / "subuid"), 4321)
    assert found == (None if start is None else Range(1, start, 65536))


def test_without_the_file_there_is_no_range(tmp_path):
    assert subordinate_ids(str(tmp_path / "none"), 4321) is None


def test_maps_that_the_kernel_refuses_name_the_process():
    told = run("""
        import time
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(told, b".")
            time.sleep(60)
            os._exit(0)
        os.read(ready, 1)
        ids = identity.IdMap("single", [identity.Range(0, 5, 1)] * 2, [])
        try:
            identity.write_maps(child, ids)
        except OSError as error:
            print(error.filename.replace(str(child), "N"))
        os.kill(child, 9)
        os.waitpid(child, 0)
    """)
    assert told == "uid_map of process N"


def test_what_the_helpers_refuse_is_told_in_their_words(user_of_range):
    told = run(
        """
        ids = identity.IdMap("range", [identity.Range(0, 5, 9)], [identity.Range(0, os.getgid(), 1)])
        try:
            identity.run_mapped(ids, ["id"])
        except OSError as error:
            print(error.filename, error.strerror)
        """,
        user_of_range,
    )
    assert told.startswith("newuidmap")
    assert "not allowed" in told


def test_a_command_runs_with_its_streams_beside_threads(tmp_path):
    results = []

    def work(number: int) -> None:
        with open(tmp_path / str(number), "w+b") as file:
            file.write(b"%d" % number)
            file.flush()
            file.seek(0)
            finished = identity.run_mapped(
                SINGLE,
                ["sh", "-c", "cat; echo $WORD >&2; exit 7"],
                file,
                subprocess.PIPE,
                subprocess.PIPE,
                {"WORD": "w"},
            )
        results.append((number, finished.stdout, finished.stderr, finished.returncode))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(number, b"%d" % number, b"w\n", 7) for number in range(8)]


def test_descriptors_are_passed_and_none_is_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with open(tmp_path / "passed", "w+") as file:
        code = f"import os; os.write({file.fileno()}, b'here')"
        argv = [sys.executable, "-I", "-S", "-c", code]
        assert identity.run_mapped(SINGLE, argv, pass_fds=[file.fileno()]).returncode == 0
    assert (tmp_path / "passed").read_text() == "here"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_command_that_is_not_there_says_so():
    finished = identity.run_mapped(SINGLE, ["/no/such/command"], stderr=subprocess.PIPE)
    assert (finished.returncode, finished.stderr) == (1, b"/no/such/command: No such file or directory\n")


def test_where_user_namespaces_are_refused_the_error_says_so():
    told = run("""
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.install()
        ids = identity.IdMap("single", [identity.Range(0, os.geteuid(), 1)], [identity.Range(0, os.getegid(), 1)])
        try:
            identity.run_mapped(ids, ["id"])
        except OSError as error:
            print(error)
    """)
    assert told == "[Errno 1] Operation not permitted: 'unshare user'"
