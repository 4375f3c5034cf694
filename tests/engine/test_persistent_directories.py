"""Persistent directories on every engine with real services: the same tests for each."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import Action, Engine
from pytest_enclave.errors import ServiceError
from pytest_enclave.plan.service import PortSpec
from pytest_enclave.run.pipeline import Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal
from tests.engine.engine_enclave import BUSYBOX, REDIS, Enclave, Fork, enclave_id
from tests.laboratory import Laboratory

POSTGRES = "enclave-test/postgres:local"
DATA = {"/data": "data"}


@pytest.fixture
def plans(enclave: Enclave, engine: Engine, tools: Tools, tmp_path: Path) -> Iterator[Laboratory]:
    """Runs plans in an enclave of a real engine."""
    journal = Journal(tmp_path / "journal")
    files = ArtifactStore(tmp_path / "files", journal)
    yield Laboratory(EnclaveState(enclave.id, engine, enclave.site, journal, files), tools)
    journal.close()


def restart(enclave: Enclave, name: str) -> None:
    enclave.site.act(name, Action.STOP)
    enclave.site.act(name, Action.START)


# Staying


def test_it_is_empty_and_can_be_written(shared: Enclave):
    shared.up("new", directories={"/new/directory": "new"})
    assert shared.sh("new", "ls -A /new/directory; stat -c '%u %g %a' /new/directory") == "0 0 755"
    shared.sh("new", "echo '#!/bin/sh\necho ran' > /new/directory/program; chmod +x /new/directory/program")
    assert shared.sh("new", "/new/directory/program") == "ran"


def test_it_outlives_restart_replacement_and_removal(shared: Enclave):
    shared.up("lasting", directories={"/data": "lasting"})
    shared.sh("lasting", "echo one > /data/lines; echo lost > /own")
    restart(shared, "lasting")
    shared.sh("lasting", "echo two >> /data/lines")
    shared.up("lasting", directories={"/data": "lasting"}, env_vars={"VERSION": "2"})
    assert shared.site.exec("lasting", ["ls", "/own"], None).code != 0
    shared.sh("lasting", "echo three >> /data/lines")
    shared.site.act("lasting", Action.REMOVE)
    shared.up("another", directories={"/elsewhere": "lasting"})
    assert shared.sh("another", "cat /elsewhere/lines").split() == ["one", "two", "three"]


def test_services_share_it_at_once(shared: Enclave):
    for name in ("reader", "writer"):
        shared.up(name, directories={f"/{name}": "shared", "/again": "shared"})
    shared.sh("writer", "mkdir /writer/deep && echo hello > /writer/deep/file")
    assert shared.sh("reader", "cat /reader/deep/file /again/deep/file") == "hello\nhello"
    shared.sh("reader", "rm -r /again/deep")
    assert shared.sh("writer", "ls -A /writer") == ""


def test_keys_tell_them_apart(shared: Enclave):
    shared.up("keys", directories={"/a": "key-a", "/b": "key-b"})
    shared.sh("keys", "touch /a/a /b/b")
    assert shared.sh("keys", "ls /a /b").split() == ["/a:", "a", "/b:", "b"]


def test_each_enclave_has_its_own(engine: Engine, open_enclave: Callable[[Engine], Enclave]):
    one, other = open_enclave(engine), open_enclave(engine)
    for enclave in (one, other):
        enclave.up("s", directories=DATA)
    one.sh("s", "touch /data/one")
    assert other.sh("s", "ls -A /data") == ""


def test_files_of_it_can_be_read_when_the_service_has_ended(shared: Enclave):
    shared.up("ended", cmd=("sh", "-c", "echo left > /data/left"), directories={"/data": "ended"})
    assert shared.site.pause(5, watching="ended") is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(shared.site.read("ended", "/data")))) as tar:
        assert "data/left" in tar.getnames()


# Beginning with what the image has


def test_it_begins_with_what_the_image_has_there(shared: Enclave):
    shared.up("plain")
    own = " ".join(f"! -name {name}" for name in ("hosts", "hostname", "resolv.conf", "mtab"))
    look = f"cd /etc && find . {own} | sort | xargs stat -c '%n %u %g %a %F %N'"
    expected = shared.sh("plain", look)
    shared.up("seeded", directories={"/copy": "seeded"})
    shared.up("first", directories={"/etc": "of-image"})
    shared.up("second", directories={"/etc": "of-image", "/copy": "of-image"})
    assert shared.sh("seeded", "ls -A /copy") == ""
    assert shared.sh("first", look) == expected
    assert shared.sh("second", look.replace("/etc", "/copy", 1)) == expected


def test_what_is_there_is_not_covered_by_what_the_image_has(shared: Enclave):
    shared.up("before", directories={"/other": "kept"})
    shared.sh("before", "echo mine > /other/passwd")
    shared.up("after", directories={"/etc": "kept"})
    assert shared.sh("after", "cat /etc/passwd; ls /etc/group /etc/shadow 2> /dev/null || true") == "mine"


def test_one_that_was_emptied_stays_empty_when_the_service_starts_again(shared: Enclave):
    shared.up("emptied", directories={"/var": "emptied"})
    shared.sh("emptied", "rm -rf /var/* && ls -A /var")
    restart(shared, "emptied")
    assert shared.sh("emptied", "ls -A /var") == ""


def test_several_services_that_start_at_once_find_it_filled_once(shared: Enclave):
    names = [f"at-once-{number}" for number in range(4)]
    outcomes = shared.start(*(shared.spec(name, directories={"/etc": "at-once"}) for name in names))
    assert set(outcomes.values()) == {None}
    assert len({shared.sh(name, "ls -A /etc; cat /etc/passwd") for name in names}) == 1


def test_the_user_of_the_image_owns_what_it_owned(shared: Enclave):
    shared.up("cache", REDIS, ports={"redis": PortSpec(6379)}, directories={"/data": "cache"})
    shared.wait_open("cache", PortSpec(6379))
    assert shared.sh("cache", "redis-cli set a 1 && redis-cli save") == "OK\nOK"
    shared.up("cache", REDIS, ports={"redis": PortSpec(6379)}, directories={"/data": "cache"}, labels={"v": "2"})
    shared.wait_open("cache", PortSpec(6379))
    assert shared.sh("cache", "redis-cli get a") == "1"


def test_a_file_in_its_place_is_told(shared: Enclave):
    outcome = shared.start(shared.spec("onto-file", directories={"/etc/passwd": "file"}))["onto-file"]
    assert isinstance(outcome, ServiceError)
    assert "what is mounted is a directory, and the image has" in outcome.message


# Beside artifacts


def test_artifacts_beside_it_and_in_it_stay_read_only(shared: Enclave, tmp_path: Path):
    (tmp_path / "settings").write_text("mode = test")
    shared.artifacts["config"] = tmp_path
    shared.up(
        "both",
        files={"/data/config": "config", "/config": "config"},
        directories={"/data": "both", "/data/deep": "deep"},
    )
    shared.sh("both", "touch /data/file /data/deep/file")
    assert shared.sh("both", "cat /data/config/settings /config/settings") == "mode = testmode = test"
    for path in ("/data/config/file", "/config/file"):
        assert "Read-only file system" in shared.site.exec("both", ["touch", path], None).output
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]


# In plans


def test_row_157_a_persistent_directory_survives_the_update_of_a_service(plans: Laboratory):
    service = (
        'plan.add_service("s", ServiceConfig(image = "{0}", cmd = ["sleep", "1000000"], env_vars = {{"V": "{1}"}}, '
        'files = {{"/data": Directory(persistent_key = "lines")}}))\n'
        'command = ["sh", "-c", "echo $V >> /data/lines; wc -l < /data/lines"]\n'
        'return plan.exec("s", ExecRecipe(command = command))["output"]'
    )
    outputs = [plans.ok(service.format(BUSYBOX, version)).output for version in (1, 2)]
    assert [text.strip() for text in outputs] == ["1", "2"]


def test_row_158_several_artifacts_in_one_directory_are_all_there(plans: Laboratory):
    made = (
        'plan.render_templates({{"a/x": struct(template = "one", data = {{}})}}, name = "one")\n'
        'plan.render_templates({{"a/y": struct(template = "{1}", data = {{}})}}, name = "two")\n'
        'plan.add_service("s", ServiceConfig(image = "{0}", cmd = ["sleep", "1000000"], '
        'files = {{"/both": Directory(artifact_names = ["one", "two"])}}))\n'
        'return plan.exec("s", ExecRecipe(command = ["cat", "/both/a/x", "/both/a/y"]))["output"]'
    )
    assert [plans.ok(made.format(BUSYBOX, text)).output for text in ("two", "three")] == ["onetwo", "onethree"]
    result = plans.state.site.exec("s", ["touch", "/both/new"], None)
    assert "Read-only file system" in result.output


# Forks


def test_a_fork_has_what_was_there_at_the_freeze_and_neither_writes_to_the_other(enclave: Enclave, fork: Fork):
    enclave.up("s", directories=DATA)
    enclave.sh(
        "s", "echo old > /data/file && touch /data/gone && mkdir /data/deep && chown 7:8 /data && chmod 710 /data"
    )
    # Where there is one user id only, it stays what it is.
    owned = enclave.sh("s", "stat -c '%u %g %a' /data")
    assert owned.endswith(" 710")
    enclave.site.freeze()
    enclave.sh("s", "echo later > /data/later")
    one, other = fork(enclave), fork(enclave)
    for name, each in (("one", one), ("origin", enclave)):
        each.sh("s", f"echo {name} > /data/file && rm /data/gone && rmdir /data/deep && touch /data/{name}")
    assert one.sh("s", "ls /data; cat /data/file").split() == ["file", "one", "one"]
    assert enclave.sh("s", "ls /data; cat /data/file").split() == ["file", "later", "origin", "origin"]
    for each in (other, fork(enclave)):
        assert each.sh("s", "ls /data; cat /data/file").split() == ["deep", "file", "gone", "old"]
    assert {each.sh("s", "stat -c '%u %g %a' /data") for each in (enclave, one, other)} == {owned}


def test_in_a_fork_it_is_shared_as_before(enclave: Enclave, fork: Fork):
    for name in ("reader", "writer", "stopped"):
        enclave.up(name, directories={f"/{name}": "data"})
    enclave.site.act("stopped", Action.STOP)
    enclave.site.freeze()
    copy = fork(enclave)
    copy.sh("writer", "echo hello > /writer/file")
    assert copy.sh("reader", "cat /reader/file") == "hello"
    copy.site.act("stopped", Action.START)
    copy.up("new", directories={"/new": "data"})
    assert copy.sh("stopped", "cat /stopped/file") == copy.sh("new", "cat /new/file") == "hello"
    assert enclave.sh("reader", "ls /reader") == ""


def test_one_whose_services_are_gone_is_in_the_fork_too(enclave: Enclave, fork: Fork):
    enclave.up("gone", directories=DATA)
    enclave.sh("gone", "touch /data/file")
    enclave.site.act("gone", Action.REMOVE)
    enclave.site.freeze()
    copy = fork(enclave)
    for each in (copy, enclave):
        each.up("new", directories=DATA)
        assert each.sh("new", "ls /data") == "file"


def test_one_that_was_emptied_is_empty_in_the_fork(enclave: Enclave, fork: Fork):
    enclave.up("s", directories={"/var": "data"})
    enclave.sh("s", "rm -rf /var/* && ls -A /var")
    enclave.site.freeze()
    for each in (fork(enclave), enclave):
        assert each.sh("s", "ls -A /var") == ""


def test_freezing_again_and_forking_a_fork(enclave: Enclave, fork: Fork):
    enclave.up("s", directories=DATA)
    copies = []
    for number in (1, 2):
        enclave.sh("s", f"echo {number} >> /data/lines && touch /data/{number}")
        enclave.site.freeze()
        copies.append(fork(enclave))
    copies[1].sh("s", "echo 3 >> /data/lines && rm /data/1")
    copies[1].site.freeze()
    grandchild = fork(copies[1])
    grandchild.sh("s", "echo 4 >> /data/lines")
    assert copies[1].site.close() == []
    assert copies[0].sh("s", "ls /data; cat /data/lines").split() == ["1", "lines", "1"]
    assert grandchild.sh("s", "ls /data; cat /data/lines").split() == ["2", "lines", "1", "2", "3", "4"]
    assert enclave.sh("s", "ls /data; cat /data/lines").split() == ["1", "2", "lines", "1", "2"]


def test_a_fork_keeps_it_when_its_origin_is_closed(engine: Engine, fork: Fork):
    id_ = enclave_id()
    origin = Enclave(engine.open(id_), id_)
    origin.up("s", directories=DATA)
    origin.sh("s", "echo kept > /data/file")
    origin.site.freeze()
    copy = fork(origin)
    assert origin.site.close() == []
    restart(copy, "s")
    assert copy.sh("s", "cat /data/file") == "kept"


def test_a_database_in_one_is_forked(enclave: Enclave, fork: Fork):
    def statement(each: Enclave, text: str) -> str:
        each.wait_open("db", PortSpec(5432))
        for _ in range(500):
            if each.site.exec("db", ["pg_isready", "-h", "127.0.0.1", "-U", "postgres"], None).code == 0:
                break
            each.site.pause(0.02)
        return each.sh("db", f'psql -h 127.0.0.1 -U postgres -Atc "{text}"')

    settings = {"env_vars": {"POSTGRES_HOST_AUTH_METHOD": "trust"}, "directories": {"/var/lib/postgresql/data": "pg"}}
    enclave.up("db", POSTGRES, ports={"pg": PortSpec(5432)}, **settings)
    statement(enclave, "create table orders (id int); insert into orders values (1), (2)")
    enclave.site.act("db", Action.STOP)
    enclave.up("db", POSTGRES, ports={"pg": PortSpec(5432)}, **settings)
    assert statement(enclave, "select sum(id) from orders") == "3"
    enclave.site.freeze()
    copy = fork(enclave)
    statement(copy, "insert into orders values (3)")
    assert [statement(each, "select sum(id) from orders") for each in (copy, enclave)] == ["6", "3"]
