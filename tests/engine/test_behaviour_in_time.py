"""What every engine with real services does, from the first log line to the last removal: the same for each."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_enclave.engine.protocol import (
    Action,
    Engine,
    Exit,
    PullPolicy,
)
from pytest_enclave.errors import EngineError, Problem, ServiceError
from pytest_enclave.plan.events import silent
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import BUSYBOX, PYTHON, REDIS, Enclave

# Logs


def test_logs_have_lines_of_both_streams_with_their_time(engine: Engine, shared: Enclave):
    began = engine.clock.wall()
    shared.up("logs", cmd=("sh", "-c", "echo out; sleep .05; echo err >&2; sleep .05; printf unfinished"))
    shared.site.pause(5, watching="logs")
    lines = shared.site.logs("logs")
    assert [line.text for line in lines] == ["out", "err", "unfinished"]
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert began - 1 < lines[0].at < engine.clock.wall() + 1


def test_logs_are_told_since_a_moment(shared: Enclave):
    shared.up("since", cmd=("sh", "-c", "for i in 1 2 3; do echo $i; sleep .05; done"))
    shared.site.pause(5, watching="since")
    second = shared.site.logs("since")[1]
    assert [line.text for line in shared.site.logs("since", second.at)] == ["2", "3"]


def test_long_lines_stay_whole(shared: Enclave):
    shared.up("long", cmd=("sh", "-c", "yes x | head -50000 | tr -d '\\n'; echo; echo end"))
    shared.site.pause(5, watching="long")
    assert [len(line.text) for line in shared.site.logs("long")] == [50_000, 3]


def test_a_replaced_service_begins_a_new_log(shared: Enclave):
    for word in ("first", "second"):
        shared.up("relogged", cmd=("echo", word))
        shared.site.pause(5, watching="relogged")
    assert [line.text for line in shared.site.logs("relogged")] == ["second"]


# Lifecycle


def test_a_service_is_stopped_and_started_again(shared: Enclave):
    spec = shared.up("cycle", REDIS, ports={"redis": PortSpec(6379)})
    shared.wait_open("cycle", PortSpec(6379))
    shared.site.act("cycle", Action.STOP)
    assert shared.site.observe()["cycle"].status is Status.STOPPED
    assert shared.site.exit_of("cycle") == Exit(0)
    assert not shared.site.accepts("cycle", PortSpec(6379))
    shared.site.act("cycle", Action.START)
    fact = shared.site.observe()["cycle"]
    assert (fact.status, fact.ip_address) == (Status.RUNNING, spec.address.ip_address)
    assert shared.site.exit_of("cycle") is None
    shared.wait_open("cycle", PortSpec(6379))


def test_a_killed_service_has_exited_by_signal(shared: Enclave):
    shared.up("killed")
    shared.site.act("killed", Action.KILL)
    fact = shared.site.observe()["killed"]
    assert (fact.status, fact.exit_code) == (Status.EXITED, 137)
    assert shared.site.exit_of("killed") == Exit(137)


def test_a_paused_service_is_resumed(shared: Enclave):
    shared.up("frozen")
    shared.site.act("frozen", Action.PAUSE)
    assert shared.site.observe()["frozen"].status is Status.PAUSED
    assert shared.site.exit_of("frozen") is None
    shared.site.act("frozen", Action.RESUME)
    assert shared.site.observe()["frozen"].status is Status.RUNNING
    assert shared.sh("frozen", "echo thawed") == "thawed"


def test_a_paused_service_can_be_stopped(shared: Enclave):
    shared.up("frozen-stopped")
    shared.site.act("frozen-stopped", Action.PAUSE)
    shared.site.act("frozen-stopped", Action.STOP)
    assert shared.site.observe()["frozen-stopped"].status is Status.STOPPED


def test_what_a_service_already_is_it_stays(shared: Enclave):
    shared.up("same")
    shared.site.act("same", Action.START)
    shared.site.act("same", Action.RESUME)
    assert shared.site.observe()["same"].status is Status.RUNNING
    for _ in range(2):
        shared.site.act("same", Action.STOP)
        assert shared.site.observe()["same"].status is Status.STOPPED
    with pytest.raises(ServiceError, match="does not run"):
        shared.site.act("same", Action.PAUSE)


def test_a_removed_service_is_gone_and_its_name_is_free(shared: Enclave):
    shared.up("gone")
    shared.site.act("gone", Action.REMOVE)
    assert "gone" not in shared.site.observe()
    assert shared.site.logs("gone") == []
    shared.site.act("gone", Action.REMOVE)
    with pytest.raises(ServiceError, match='no service "gone"'):
        shared.site.act("gone", Action.START)
    shared.up("gone")
    assert shared.site.observe()["gone"].status is Status.RUNNING


# Ends


def test_the_end_of_a_process_ends_a_pause_at_once(engine: Engine, shared: Enclave):
    shared.up("ends", cmd=("sh", "-c", "sleep .3; exit 7"))
    began = engine.clock.now()
    assert shared.site.pause(20, watching="ends") == Exit(7)
    assert engine.clock.now() - began < 3
    fact = shared.site.observe()["ends"]
    assert (fact.status, fact.exit_code) == (Status.EXITED, 7)


def test_an_end_right_at_the_start_is_not_missed(shared: Enclave):
    for number in range(3):
        shared.up(f"instant-{number}", cmd=("false",))
        assert shared.site.pause(5, watching=f"instant-{number}") == Exit(1)


def test_a_pause_without_an_end_takes_its_time(engine: Engine, shared: Enclave):
    shared.up("lasting")
    began = engine.clock.now()
    assert shared.site.pause(0.2, watching="lasting") is None
    shared.site.pause(0.1)
    assert 0.3 <= engine.clock.now() - began < 1


def test_running_out_of_memory_is_told(shared: Enclave):
    hungry = ("python3", "-c", "data = bytearray(200_000_000); input()")
    shared.up("hungry", PYTHON, cmd=hungry, max_memory=30)
    assert shared.site.pause(10, watching="hungry") == Exit(137, out_of_memory=True)


def test_limits_of_cpu_are_felt_or_warned_of(engine: Engine, shared: Enclave):
    spec = shared.up("limited", max_cpu=100)
    if warnings := engine.check(spec):
        # A plain user on the embedded engine.
        assert ["can make no control groups" in warning.message for warning in warnings] == [True]
        assert warnings[0].severity == "warning"
        return
    began = time.monotonic()
    shared.sh("limited", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done")
    limited = time.monotonic() - began
    shared.up("limited")
    began = time.monotonic()
    shared.sh("limited", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done")
    assert limited > 2 * (time.monotonic() - began)


# Closing


def test_closing_removes_all_and_may_be_repeated(enclave: Enclave):
    enclave.up("one")
    assert enclave.site.close() == []
    assert enclave.site.observe() == {}
    assert enclave.site.close() == []


def test_nothing_starts_in_a_closed_enclave(enclave: Enclave):
    spec = enclave.spec("late")
    enclave.site.close()
    error = enclave.start(spec)["late"]
    assert isinstance(error, EngineError)
    assert "is being closed" in error.message


def test_closing_while_services_start_leaves_nothing(enclave: Enclave):
    specs = [enclave.spec(f"s{number}") for number in range(6)]
    thread = threading.Thread(target=enclave.start, args=specs)
    thread.start()
    time.sleep(0.15)
    assert enclave.site.close() == []
    thread.join(10)
    assert not thread.is_alive()
    assert enclave.site.close() == []


def test_closing_ends_a_pause(enclave: Enclave):
    enclave.up("watched")
    exits: list[Exit | None] = []
    thread = threading.Thread(target=lambda: exits.append(enclave.site.pause(60, watching="watched")))
    thread.start()
    enclave.site.close()
    thread.join(5)
    assert not thread.is_alive()


# Images and limits


def test_local_images_are_told_apart_from_missing_ones(engine: Engine):
    images = engine.local_images([BUSYBOX, "enclave-test/nothing:none"])
    assert str(images[BUSYBOX]).startswith("sha256:")
    assert images["enclave-test/nothing:none"] is None


def test_an_image_that_is_there_is_not_pulled(engine: Engine):
    resolved = engine.resolve_images([BUSYBOX], PullPolicy.MISSING, silent)
    assert resolved == engine.local_images([BUSYBOX])


def test_an_image_that_may_not_be_pulled_is_a_problem(engine: Engine):
    problem = engine.resolve_images(["enclave-test/busybox:lokal"], PullPolicy.NEVER, silent)
    told = problem["enclave-test/busybox:lokal"]
    assert isinstance(told, Problem)
    assert "is not on the engine, and pulling is off" in told.message
    assert BUSYBOX in told.message


def test_the_capacity_is_known(engine: Engine):
    capacity = engine.capacity()
    assert capacity is not None
    assert capacity.cpu >= 1000
    assert capacity.memory >= 256


def test_more_cpu_than_there_is_is_a_warning_and_starts(engine: Engine, shared: Enclave):
    spec = shared.spec("greedy", max_cpu=10_000_000)
    (problem,) = engine.check(spec)
    assert (problem.severity, problem.subject) == ("warning", "greedy")
    assert "10000000 millicores" in problem.message
    assert shared.start(spec)["greedy"] is None
