"""Freezing and forking on every engine with real services: the same tests for each."""

from __future__ import annotations

import time
from pathlib import Path

from pytest_enclave.engine.protocol import Action, Engine
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import BUSYBOX, NGINX, REDIS, Enclave, Fork

POSTGRES = "enclave-test/postgres:local"
CACHE = {"redis": PortSpec(6379)}
DATABASE = {"pg": PortSpec(5432)}


def cache(enclave: Enclave, command: str) -> str:
    """What redis answers in the service `cache`, once it listens."""
    enclave.wait_open("cache", CACHE["redis"])
    return enclave.sh("cache", f"redis-cli {command}")


def statement(enclave: Enclave, text: str) -> str:
    """What Postgres answers in the service `db`, once it is ready."""
    enclave.wait_open("db", DATABASE["pg"])
    for _ in range(500):
        if enclave.site.exec("db", ["pg_isready", "-h", "127.0.0.1", "-U", "postgres"], None).code == 0:
            break
        enclave.site.pause(0.02)
    return enclave.sh("db", f'psql -h 127.0.0.1 -U postgres -Atc "{text}"')


def statuses(enclave: Enclave) -> dict[str, Status]:
    return {name: fact.status for name, fact in enclave.site.observe().items()}


# What is in a fork


def test_what_was_written_before_the_freeze_is_in_the_fork_and_what_comes_later_is_not(enclave: Enclave, fork: Fork):
    enclave.up("cache", REDIS, ports=CACHE)
    cache(enclave, "set before yes")
    enclave.site.freeze()
    cache(enclave, "set after yes")
    copy = fork(enclave)
    assert (cache(copy, "get before"), cache(copy, "get after")) == ("yes", "")
    assert (cache(enclave, "get before"), cache(enclave, "get after")) == ("yes", "yes")


def test_writes_in_one_never_reach_another(enclave: Enclave, fork: Fork):
    enclave.up("files")
    enclave.sh("files", "mkdir /kept && echo old > /kept/file && echo gone > /kept/gone")
    enclave.site.freeze()
    one, other = fork(enclave), fork(enclave)
    for name, each in (("origin", enclave), ("one", one)):
        each.sh("files", f"echo {name} > /kept/file && echo {name} > /kept/{name} && rm /kept/gone && rm -r /root")
    assert enclave.sh("files", "ls /kept && cat /kept/file") == "file\norigin\norigin"
    assert one.sh("files", "ls /kept && cat /kept/file") == "file\none\none"
    assert other.sh("files", "ls /kept && cat /kept/file && ls -d /root") == "file\ngone\nold\n/root"
    assert fork(enclave).sh("files", "ls /kept && cat /kept/file") == "file\ngone\nold"


def test_the_data_of_a_database_survive(enclave: Enclave, fork: Fork):
    enclave.up("db", POSTGRES, ports=DATABASE, env_vars={"POSTGRES_HOST_AUTH_METHOD": "trust"})
    statement(enclave, "create table orders (id int); insert into orders values (1), (2)")
    enclave.site.freeze()
    copy = fork(enclave)
    statement(copy, "insert into orders values (3)")
    statement(enclave, "delete from orders")
    assert statement(copy, "select sum(id) from orders") == "6"
    assert statement(fork(enclave), "select sum(id) from orders") == "3"
    assert statement(enclave, "select count(*) from orders") == "0"


def test_services_are_what_they_were(engine: Engine, enclave: Enclave, fork: Fork):
    enclave.up(
        "own", cmd=("sh", "-c", 'echo "as $0" > /said; exec sleep 1000000', "me"), env_vars={"GREETING": "a = b"}
    )
    before = enclave.site.observe()["own"]
    enclave.site.freeze()
    copy = fork(enclave)
    fact = copy.site.observe()["own"]
    assert (
        (fact.status, fact.image)
        == (Status.RUNNING, before.image)
        == (
            Status.RUNNING,
            engine.local_images([BUSYBOX])[BUSYBOX],
        )
    )
    assert copy.sh("own", 'echo "$GREETING, $(hostname), $(cat /said)"') == "a = b, own, as me"
    assert fact.ip_address == copy.site.reserve("own").ip_address
    assert fact.ip_address in copy.sh("own", "ip addr show")
    assert copy.site.reserve("own").hostname == "own"


def test_names_are_those_of_the_forks_own_services(enclave: Enclave, fork: Fork):
    enclave.up("cache", REDIS, ports=CACHE)
    enclave.up("client", REDIS, cmd=("sleep", "1000000"))
    enclave.site.freeze()
    copies = {"one": fork(enclave), "other": fork(enclave)}
    for name, copy in copies.items():
        copy.wait_open("cache", CACHE["redis"])
        copy.sh("client", f"redis-cli -h cache set who {name}")
    enclave.wait_open("cache", CACHE["redis"])
    assert {name: cache(copy, "get who") for name, copy in copies.items()} == {"one": "one", "other": "other"}
    assert cache(enclave, "get who") == ""


def test_a_fork_cannot_reach_its_origin(enclave: Enclave, fork: Fork):
    enclave.up("web", NGINX, ports={"http": PortSpec(80)})
    enclave.up("client")
    enclave.site.freeze()
    copy = fork(enclave)
    old, new = enclave.site.reserve("web").ip_address, copy.site.reserve("web").ip_address
    copy.wait_open("web", PortSpec(80))
    copy.site.act("web", Action.STOP)
    enclave.wait_open("web", PortSpec(80))
    for address in {old, new}:
        assert copy.site.exec("client", ["wget", "-T", "1", "-qO-", f"http://{address}/"], None).code != 0


def test_ports_of_a_fork_are_reached_from_the_test(enclave: Enclave, fork: Fork):
    enclave.up("cache", REDIS, ports=CACHE)
    cache(enclave, "set who origin")
    enclave.site.freeze()
    copy = fork(enclave)
    cache(copy, "set who fork")
    cache(enclave, "ping")
    here, there = (each.site.dial("cache", CACHE["redis"]) for each in (enclave, copy))
    assert here != there


def test_what_is_mounted_is_still_there(enclave: Enclave, fork: Fork, tmp_path: Path):
    (tmp_path / "settings").write_text("mode = test")
    enclave.artifacts["config"] = tmp_path
    enclave.up("reader", files={"/config": "config"})
    enclave.site.freeze()
    copy = fork(enclave)
    for each in (copy, enclave):
        assert each.sh("reader", "cat /config/settings") == "mode = test"
        assert each.site.exec("reader", ["touch", "/config/other"], None).code != 0


# What ran and what did not


def test_what_was_stopped_or_removed_stays_so(enclave: Enclave, fork: Fork):
    for name in ("runs", "stopped", "removed"):
        enclave.up(name)
        enclave.sh(name, f"echo {name} > /mine")
    enclave.site.act("stopped", Action.STOP)
    enclave.site.act("removed", Action.REMOVE)
    enclave.site.freeze()
    copy = fork(enclave)
    assert statuses(copy) == statuses(enclave) == {"runs": Status.RUNNING, "stopped": Status.STOPPED}
    copy.site.act("stopped", Action.START)
    assert copy.sh("stopped", "cat /mine") == "stopped"
    assert statuses(enclave)["stopped"] is Status.STOPPED
    copy.up("removed")
    assert copy.site.exec("removed", ["ls", "/mine"], None).code != 0


def test_what_was_paused_stays_so(enclave: Enclave, fork: Fork):
    enclave.up("paused")
    enclave.site.act("paused", Action.PAUSE)
    enclave.site.freeze()
    copy = fork(enclave)
    assert statuses(copy) == statuses(enclave) == {"paused": Status.PAUSED}
    copy.site.act("paused", Action.RESUME)
    assert copy.sh("paused", "echo resumed") == "resumed"
    assert statuses(enclave)["paused"] is Status.PAUSED


def test_a_job_that_is_done_is_not_done_again(enclave: Enclave, fork: Fork):
    enclave.up("job", cmd=("sh", "-c", "echo done >> /times; exit 3"))
    assert enclave.site.pause(10, watching="job") is not None
    enclave.site.freeze()
    copy = fork(enclave)
    for each in (copy, enclave):
        fact = each.site.observe()["job"]
        assert (fact.status, fact.exit_code) == (Status.EXITED, 3)
        ended = each.site.exit_of("job")
        assert ended is not None
        assert ended.code == 3
        assert b"".join(each.site.read("job", "/times")).count(b"done\n") == 1


def test_running_services_are_asked_to_end(enclave: Enclave, fork: Fork):
    enclave.up("careful", cmd=("sh", "-c", "trap 'echo cleanly > /ended; exit 0' TERM; while :; do sleep 0.1; done"))
    time.sleep(0.3)
    enclave.site.freeze()
    copy = fork(enclave)
    for each in (copy, enclave):
        assert each.sh("careful", "cat /ended") == "cleanly"
        assert statuses(each)["careful"] is Status.RUNNING


def test_the_original_goes_on_as_ever(enclave: Enclave, fork: Fork):
    spec = enclave.up("cache", REDIS, ports=CACHE)
    address = enclave.site.observe()["cache"].ip_address
    enclave.site.freeze()
    fork(enclave)
    cache(enclave, "set a 1")
    assert enclave.site.observe()["cache"].ip_address == address
    for action in (Action.STOP, Action.START):
        enclave.site.act("cache", action)
    assert cache(enclave, "get a") == "1"
    assert enclave.start(spec) == {"cache": None}
    assert cache(enclave, "get a") == "", "replaced"
    enclave.site.act("cache", Action.REMOVE)
    assert enclave.site.observe() == {}


# A fork is an enclave like any other


def test_services_of_a_fork_are_stopped_started_replaced_added_and_removed(enclave: Enclave, fork: Fork):
    enclave.up("cache", REDIS, ports=CACHE)
    cache(enclave, "set a 1")
    enclave.site.freeze()
    copy = fork(enclave)
    address = copy.site.reserve("cache")
    for action in (Action.STOP, Action.START, Action.KILL, Action.START):
        copy.site.act("cache", action)
    assert cache(copy, "get a") == "1"
    copy.up("new")
    assert address.ip_address in copy.sh("new", "nslookup cache 2>/dev/null || cat /etc/hosts")
    copy.up("cache", REDIS, ports=CACHE)
    assert copy.site.reserve("cache") == address
    assert cache(copy, "get a") == ""
    copy.site.act("cache", Action.REMOVE)
    assert list(copy.site.observe()) == ["new"]
    assert list(enclave.site.observe()) == ["cache"]


def test_a_fork_lives_on_after_the_original_is_closed(enclave: Enclave, fork: Fork):
    enclave.up("cache", REDIS, ports=CACHE)
    cache(enclave, "set a 1")
    enclave.site.freeze()
    copy = fork(enclave)
    assert enclave.site.close() == []
    assert cache(copy, "get a") == "1"
    for action in (Action.STOP, Action.START):
        copy.site.act("cache", action)
    assert cache(copy, "get a") == "1"


def test_a_fork_can_be_forked(enclave: Enclave, fork: Fork):
    enclave.up("files")
    enclave.sh("files", "echo 1 >> /generations")
    enclave.site.freeze()
    child = fork(enclave)
    child.sh("files", "echo 2 >> /generations")
    child.up("more")
    child.site.freeze()
    grandchild = fork(child)
    grandchild.sh("files", "echo 3 >> /generations")
    generations = [each.sh("files", "cat /generations").split() for each in (enclave, child, grandchild)]
    assert generations == [["1"], ["1", "2"], ["1", "2", "3"]]
    assert set(grandchild.site.observe()) == {"files", "more"}
    assert child.site.close() == []
    assert grandchild.sh("files", "tail -n 1 /generations") == "3"


def test_three_forks_live_side_by_side(enclave: Enclave, fork: Fork):
    enclave.up("cache", REDIS, ports=CACHE)
    cache(enclave, "set n 0")
    enclave.site.freeze()
    copies = [fork(enclave) for _ in range(3)]
    for count, copy in enumerate(copies, 1):
        cache(copy, f"incrby n {count}")
    assert [cache(copy, "get n") for copy in (enclave, *copies)] == ["0", "1", "2", "3"]


def test_freezing_again_moves_the_point(enclave: Enclave, fork: Fork):
    enclave.up("files")
    copies = []
    for number in (1, 2):
        enclave.sh("files", f"echo {number} >> /count")
        enclave.site.freeze()
        copies.append(fork(enclave))
    enclave.sh("files", "echo 3 >> /count")
    assert [each.sh("files", "cat /count").split() for each in copies] == [["1"], ["1", "2"]]


def test_an_enclave_without_services_can_be_forked(enclave: Enclave, fork: Fork):
    enclave.site.freeze()
    copy = fork(enclave)
    assert copy.site.observe() == {}
    copy.up("first")
    assert list(enclave.site.observe()) == []


def test_closing_a_fork_leaves_nothing_of_it_and_all_of_the_others(enclave: Enclave, fork: Fork):
    enclave.up("cache", REDIS, ports=CACHE)
    cache(enclave, "set a 1")
    enclave.site.freeze()
    closed, other = fork(enclave), fork(enclave)
    cache(closed, "set a 2")
    endpoint = closed.site.dial("cache", CACHE["redis"])
    assert closed.site.close() == []
    assert closed.site.close() == []
    assert other.site.dial("cache", CACHE["redis"]) != endpoint
    assert [cache(each, "get a") for each in (enclave, other, fork(enclave))] == ["1", "1", "1"]
