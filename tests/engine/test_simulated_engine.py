from __future__ import annotations

import hashlib

import pytest

from pytest_enclave.engine.protocol import Address, EnclaveId, Leak, PullPolicy, ServiceSpec
from pytest_enclave.engine.simulated import Script, SimulatedEngine, digest_of
from pytest_enclave.errors import EngineError, EngineUnavailable, Problem
from pytest_enclave.plan.events import Event, ImageProgress, silent
from pytest_enclave.plan.facts import Capacity


def test_an_engine_is_there_by_default() -> None:
    engine = SimulatedEngine()
    assert engine.name == "simulated"
    assert engine.probe().endpoint == "in this process"


def test_an_engine_can_be_scripted_away() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        SimulatedEngine(Script().unavailable("no daemon")).probe()
    assert caught.value.tried == (("simulated", "no daemon"),)


def test_it_has_eight_cpus_and_sixteen_gigabytes_unless_told_otherwise() -> None:
    assert SimulatedEngine().capacity() == Capacity(cpu=8_000, memory=16_384)
    assert SimulatedEngine(Script().capacity(None)).capacity() is None


def test_every_image_is_local_with_a_digest_that_follows_from_its_reference() -> None:
    digest = "sha256:" + hashlib.sha256(b"redis:7").hexdigest()
    assert digest_of("redis:7") == digest
    assert SimulatedEngine().local_images(["redis:7"]) == {"redis:7": digest}


def test_a_scripted_digest_is_used() -> None:
    engine = SimulatedEngine(Script().image("redis:7", digest="sha256:07"))
    assert engine.resolve_images(["redis:7"], PullPolicy.MISSING, silent) == {"redis:7": "sha256:07"}


def test_images_that_are_local_are_resolved_in_no_time() -> None:
    engine = SimulatedEngine()
    engine.resolve_images(["a", "b"], PullPolicy.MISSING, silent)
    assert engine.clock.now() == 0.0


def test_images_are_pulled_beside_each_other_and_then_local() -> None:
    engine = SimulatedEngine(Script().image("a", local=False).image("b", local=False, pull_takes=7.0))
    told: list[Event] = []
    assert engine.local_images(["a", "b"]) == {"a": None, "b": None}
    resolved = engine.resolve_images(["a", "b", "a"], PullPolicy.MISSING, told.append)
    assert resolved == {"a": digest_of("a"), "b": digest_of("b")}
    assert engine.clock.now() == 7.0
    assert told == [ImageProgress(name, 0, 0, done) for name in ("a", "b") for done in (False, True)]
    assert engine.local_images(["a", "b"]) == resolved
    engine.resolve_images(["a", "b"], PullPolicy.MISSING, silent)
    assert engine.clock.now() == 7.0


def test_the_registry_is_asked_again_where_the_policy_says_always() -> None:
    engine = SimulatedEngine()
    engine.resolve_images(["a"], PullPolicy.ALWAYS, silent)
    assert engine.clock.now() == 1.0


def test_an_image_that_would_have_to_be_pulled_is_a_problem_where_the_policy_says_never() -> None:
    engine = SimulatedEngine(Script().image("a", local=False))
    problem = engine.resolve_images(["a"], PullPolicy.NEVER, silent)["a"]
    assert isinstance(problem, Problem)
    assert problem.message == "image `a` cannot be had: not local, and not to be pulled"
    assert engine.clock.now() == 0.0


@pytest.mark.parametrize(("missing", "reason"), [(True, "not found"), ("manifest unknown", "manifest unknown")])
def test_a_missing_image_is_a_problem_that_says_why(missing: bool | str, reason: str) -> None:
    engine = SimulatedEngine(Script().image("postgres:61", missing=missing))
    resolved = engine.resolve_images(["postgres:61", "redis:7"], PullPolicy.MISSING, silent)
    problem = resolved["postgres:61"]
    assert isinstance(problem, Problem)
    assert problem.message == f"image `postgres:61` cannot be had: {reason}"
    assert problem.remedy
    assert resolved["redis:7"] == digest_of("redis:7")
    assert engine.local_images(["postgres:61"]) == {"postgres:61": None}


def test_a_check_finds_what_the_script_has() -> None:
    problem = Problem("no GPU", severity="warning")
    engine = SimulatedEngine(Script().service("ml", problems=[problem]))
    address = Address("x", "10.99.0.2")
    assert engine.check(ServiceSpec("ml", "torch", address)) == (problem,)
    assert engine.check(ServiceSpec("db", "torch", address)) == ()


def test_enclaves_are_apart_and_share_the_clock() -> None:
    engine = SimulatedEngine()
    one, two = engine.open(EnclaveId("one")), engine.open(EnclaveId("two"))
    one.start([ServiceSpec("db", "postgres", one.reserve("db"))], {}, 1)
    assert set(one.observe()) == {"db"}
    assert two.observe() == {}
    two.pause(1.0)
    assert engine.clock.now() == 1.3
    assert engine.sites == {"one": one, "two": two}


def test_closing_twice_is_fine_and_leaks_are_told_once() -> None:
    leak = Leak("network", "enclave-one", "in use", "docker network rm enclave-one")
    engine = SimulatedEngine(Script().leaves(leak))
    site = engine.open(EnclaveId("one"))
    site.start([ServiceSpec("db", "postgres", site.reserve("db"))], {}, 1)
    assert site.close() == (leak,)
    assert site.observe() == {}
    assert site.close() == ()
    engine.close()
    engine.close()


def test_the_root_of_the_machine_is_an_image_only_if_the_script_has_it() -> None:
    spec = ServiceSpec("s", "host:/", Address("s", ""))
    engine = SimulatedEngine()
    assert engine.local_images(["host:/"]) == {"host:/": None}
    found = engine.resolve_images(["host:/"], PullPolicy.MISSING, silent)["host:/"]
    assert isinstance(found, Problem)
    assert found.message.startswith('image "host:/" is the root file system of this machine')
    assert [problem.message for problem in engine.check(spec)] == [found.message]
    scripted = SimulatedEngine(Script().image("host:/", digest="sha256:1"))
    assert scripted.resolve_images(["host:/"], PullPolicy.MISSING, silent) == {"host:/": "sha256:1"}
    assert scripted.check(spec) == ()


def test_its_enclaves_are_shared_with_no_other_process() -> None:
    engine = SimulatedEngine()
    enclave = EnclaveId("one", "/home/of/one", 1)
    assert engine.identity == "simulated"
    with pytest.raises(EngineError, match="there is no enclave one: simulated ones are shared with no other process"):
        engine.attach(enclave)
    site = engine.open(enclave)
    site.start([ServiceSpec("a", "i", site.reserve("a"))], {}, 1)
    site.refresh()
    site.keep(5.0)
    site.leave()
    assert list(site.observe()) == ["a"]
    assert [call.method for call in site.calls][-4:] == ["refresh", "keep", "leave", "observe"]
    assert site.asked("keep") == [{"until": 5.0}]
    assert engine.remove(enclave) == []
