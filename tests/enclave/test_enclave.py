"""An enclave as a test holds it: its services, files and output, and the ways to run packages in it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.enclave.service import Service
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import EnclaveError, EngineError, PackageError, VerifyFailed
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Request
from tests.laboratory import Laboratory

SHOP = Source(
    "def run(plan, replicas = 1):\n"
    '    f = plan.render_templates({"t": struct(template = "{{.N}}", data = {"N": replicas})}, name = "config")\n'
    "    for number in range(replicas):\n"
    '        plan.add_service("api-" + str(number), ServiceConfig(image = "img"))\n'
    "    return struct(replicas = replicas, artifact = f)\n"
    "def smoke(plan):\n"
    '    plan.verify("smoke", "==", "fire")\n'
)


@pytest.fixture
def enclave(lab: Laboratory) -> Enclave:
    """An enclave whose own package is the shop."""
    enclave = lab.enclave()
    enclave.execute(Request.of(SHOP, {"replicas": 2}))
    return enclave


def test_it_tells_its_name_services_files_and_output(enclave: Enclave):
    assert enclave.name == "lab-0"
    assert list(enclave.services) == ["api-0", "api-1"]
    assert {name: (path / "t").read_text() for name, path in enclave.files.items()} == {"config": "2"}
    assert enclave.output == {"replicas": 2, "artifact": "config"}
    assert repr(enclave) == "<Enclave 'lab-0': api-0, api-1>"


def test_a_new_enclave_is_empty(lab: Laboratory):
    enclave = lab.enclave()
    assert (dict(enclave.services), dict(enclave.files), enclave.output, enclave.last_run) == ({}, {}, None, None)
    assert repr(enclave) == "<Enclave 'lab-0': no services>"


def test_what_it_shows_cannot_be_changed(enclave: Enclave):
    with pytest.raises(TypeError):
        enclave.services["x"] = enclave.services["api-0"]  # type: ignore[index]
    with pytest.raises(TypeError):
        enclave.files["x"] = Path()  # type: ignore[index]


def test_running_nothing_in_particular_runs_its_own_package_again(enclave: Enclave):
    again = enclave.run()
    assert (again.executed, again.skipped) == (0, 3)
    assert enclave.last_run is again


def test_other_arguments_for_its_own_package(enclave: Enclave):
    grown = enclave.run(args={"replicas": 3})
    assert [str(step.outcome) for step in grown.instructions] == ["updated", "skipped", "skipped", "executed"]
    assert list(enclave.services) == ["api-0", "api-1", "api-2"]
    assert enclave.run().output == {"replicas": 2, "artifact": "config"}, "its own arguments are still the first ones"


def test_arguments_may_be_yaml(enclave: Enclave):
    assert enclave.run(args="replicas: 1").output["replicas"] == 1


def test_another_package_grows_the_enclave(enclave: Enclave):
    enclave.run(Source('def run(plan):\n    plan.add_service("db", ServiceConfig(image = "img"))'))
    assert list(enclave.services) == ["api-0", "api-1", "db"]
    assert enclave.run().executed == 0, "its own package is still the shop"


def test_another_main_function_of_its_own_package(enclave: Enclave):
    with pytest.raises(VerifyFailed, match=r'"smoke" == "fire" does not hold'):
        enclave.run(args={}, main="smoke")
    assert enclave.last_run is not None
    assert enclave.last_run.error is not None
    assert enclave.output is None


def test_without_a_package_of_its_own_one_has_to_be_named(lab: Laboratory):
    with pytest.raises(EnclaveError, match="this enclave has no package of its own"):
        lab.enclave().run()


def test_arguments_that_are_no_object_are_refused(enclave: Enclave):
    with pytest.raises(PackageError):
        enclave.run(args="[1, 2]")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"package": 3}, "a package is a path or a Source, not 3"),
        ({"package": "x", "main": 3}, "main is the name of a function, not 3"),
    ],
)
def test_what_is_no_package_is_refused(enclave: Enclave, arguments: dict[str, Any], text: str):
    with pytest.raises(TypeError) as caught:
        enclave.run(**arguments)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("a\0b", "there is no package at a\\x00b: embedded null byte"),
        ("long" * 1250, f"there is no package at {'long' * 20}…: File name too long"),
    ],
)
def test_what_can_be_no_path_is_told_in_short(enclave: Enclave, package: str, text: str):
    with pytest.raises(PackageError) as caught:
        enclave.run(package)
    assert str(caught.value) == text


def test_paths_are_relative_to_the_file_of_the_test_that_asked_last(lab: Laboratory, tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "it.star").write_text(f'def run(plan, size = 0):\n    return "{name} {{}}".format(size)\n')
        (tmp_path / name / "args.yml").write_text(f"size: {4 if name == 'one' else 5}")
    enclave = lab.enclave()
    for name, output in (("one", "one 4"), ("two", "two 5")):
        enclave.execute(Request.of(SHOP), tmp_path / name)
        assert enclave.run("it.star", args="@args.yml").output == output
        assert enclave.run().output["replicas"] == 1, "its own package is where it was"


def test_observers_are_told_of_events_plans_runs_and_the_end(lab: Laboratory):
    told: list[str] = []
    observers = Observers(
        event=lambda enclave, event: told.append(type(event).__name__),
        before_execution=lambda enclave, plan: told.append(f"plan of {len(plan.instructions)}"),
        after_run=lambda enclave, run: told.append(f"ran {run.executed}, {type(run.error).__name__}"),
        before_close=lambda enclave: told.append(f"closing {enclave.name}"),
    )
    enclave = Enclave(lab.state, lab.tools, lab.options, observers)
    enclave.run(Source('def run(plan):\n    plan.print("x")'))
    with pytest.raises(EnclaveError):
        enclave.run(Source("def run(plan):\n    fail()"))
    enclave.close()
    assert [each for each in told if each[0].islower()] == [
        "plan of 1",
        "ran 1, NoneType",
        "ran 0, ScriptFailed",
        "closing lab-0",
    ]
    assert "Printed" in told


def test_closing_removes_everything_and_returns_what_could_not_be(laboratory: Callable[..., Laboratory]):
    leak = Leak("network", "net", "in use", "docker network rm net")
    lab = laboratory(Script().leaves(leak))
    enclave = lab.enclave()
    enclave.run(SHOP)
    assert list(enclave.close()) == [leak]
    assert lab.state.site.observe() == {}
    assert list(enclave.close()) == [], "it may be closed again"


@pytest.mark.parametrize("end", ["close", "leave"])
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda enclave, _: enclave.run(), id="run"),
        pytest.param(lambda enclave, _: enclave.files, id="files"),
        pytest.param(lambda enclave, _: enclave.network.block("db", "api"), id="a-fault"),
        pytest.param(lambda _, service: service.paused(), id="a-fault-of-a-service"),
        pytest.param(lambda _, service: service.exec(["true"]), id="exec"),
        pytest.param(lambda _, service: service.logs(), id="logs"),
        pytest.param(lambda _, service: service.ports, id="ports"),
        pytest.param(lambda _, service: service.ip_address, id="ip_address"),
        pytest.param(lambda _, service: service.hostname, id="hostname"),
        pytest.param(lambda _, service: service.start(), id="start"),
        pytest.param(lambda _, service: service.stop(), id="stop"),
        pytest.param(lambda _, service: service.kill(), id="kill"),
        pytest.param(lambda _, service: service.pause(), id="pause"),
        pytest.param(lambda _, service: service.resume(), id="resume"),
    ],
)
def test_whatever_is_done_with_a_closed_enclave_is_told_alike(
    lab: Laboratory, end: str, use: Callable[[Enclave, Service], object]
):
    enclave = lab.enclave()
    ports = 'ports = {"http": PortSpec(80)}'
    enclave.run(Source(f'def run(plan):\n    plan.add_service("db", ServiceConfig(image = "img", {ports}))'))
    service, asked = enclave.services["db"], len(lab.engine.sites["lab-0"].calls)
    getattr(enclave, end)()
    with pytest.raises(EngineError) as told:
        use(enclave, service)
    assert type(told.value) is EngineError
    assert told.value.message == "enclave lab-0 is closed: the tests that it was for are over"
    assert told.value.remedy == (
        "ask for an enclave in the test that uses it: its services and network are there as long"
    )
    assert len(lab.engine.sites["lab-0"].calls) <= asked + 1, "the engine is not asked"
    assert list(enclave.services) == ["db"], "what it was is known"


def test_a_fault_that_the_end_has_healed_can_be_left(enclave: Enclave):
    one, other = enclave.services
    with enclave.network.block(one, other):
        enclave.leave()


def test_runs_from_several_threads_come_one_after_the_other(lab: Laboratory):
    enclave, together = lab.enclave(), Barrier(8)

    def add(number: int) -> int:
        together.wait()
        name = f"s{number % 4}"
        source = f'def run(plan):\n    plan.add_service("{name}", ServiceConfig(image = "img"))'
        return enclave.run(Source(source)).executed

    with ThreadPoolExecutor(8) as pool:
        executed = list(pool.map(add, range(8)))
    assert sum(executed) == 4, "each service is added by one of the two threads that want it"
    assert sorted(enclave.services) == ["s0", "s1", "s2", "s3"]
    assert lab.kept == ["add_service"] * 4
