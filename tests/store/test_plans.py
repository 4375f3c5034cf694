"""Plans are found again by other processes, as long as nothing that they came from has changed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from pytest_enclave.instructions.registry import Registry
from pytest_enclave.language import interpret as language
from pytest_enclave.package.package import Source
from pytest_enclave.plan.facts import Facts
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.run.interpretation import Interpretations, Request
from pytest_enclave.store import plans as room
from pytest_enclave.store.plans import SETTLED, KeptPlans, Settled

SCRIPT = """
other = import_module("/other.star")

def run(plan, name = "a"):
    plan.upload_files(src = "/files", name = "files")
    plan.add_service(name, ServiceConfig(image = other.IMAGE, files = {"/f": "files"}))
    return struct(name = name)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that imports a file and uploads a directory, neither just written."""
    root = tmp_path / "package"
    (root / "files").mkdir(parents=True)
    (root / "kurtosis.yml").write_text("name: github.com/some/package\n")
    (root / "main.star").write_text(SCRIPT)
    (root / "other.star").write_text('IMAGE = "img:1"\n')
    (root / "files" / "page").write_text("hello")
    time.sleep(SETTLED * 1.5)
    return root


@pytest.fixture
def kept(tmp_path: Path) -> KeptPlans:
    return KeptPlans(tmp_path / "plans")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests for which something was interpreted."""
    done: list[str] = []
    original = language.interpret

    def interpret(package: object, *arguments: object, **options: object) -> object:
        done.append(str(package))
        return original(package, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(language, "interpret", interpret)
    return done


def process(kept: KeptPlans, request: Request, **options: object) -> Plan:
    """The plan, as a process of its own gets it."""
    plans = KeptPlans(kept._directory)
    return Interpretations().interpret(request, Registry(), plans=plans, **options)  # type: ignore[arg-type]


def test_the_next_process_interprets_nothing(package: Path, kept: KeptPlans, interpreted: list[str]) -> None:
    request = Request.of(package)
    first = process(kept, request)
    assert process(kept, request) == first
    assert len(interpreted) == 1
    assert [call.name for call in first.instructions] == ["upload_files", "add_service"]


@pytest.mark.parametrize("name", ["kurtosis.yml", "main.star", "other.star", "files/page"])
def test_a_file_that_has_changed_makes_a_new_plan(
    package: Path, kept: KeptPlans, interpreted: list[str], name: str
) -> None:
    request = Request.of(package)
    process(kept, request)
    path = package / name
    before, text = path.stat(), path.read_text()
    path.write_text(text.swapcase() if name == "files/page" else text + "\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    process(kept, request)
    assert len(interpreted) == 2, "although its time was set back"


def test_a_file_that_was_added_makes_a_new_plan(package: Path, kept: KeptPlans, interpreted: list[str]) -> None:
    request = Request.of(package)
    first = process(kept, request)
    (package / "files" / "more").touch()
    assert process(kept, request) != first
    assert len(interpreted) == 2


def test_other_arguments_are_another_request(package: Path, kept: KeptPlans, interpreted: list[str]) -> None:
    for args in ({"name": "a"}, {"name": "b"}, {"name": "a"}):
        process(kept, Request.of(package, args))
    assert len(interpreted) == 2


def test_another_version_of_this_package_interprets_anew(
    package: Path, kept: KeptPlans, interpreted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process(kept, Request.of(package))
    monkeypatch.setattr(room, "_code", lambda: "another version")
    process(kept, Request.of(package))
    assert len(interpreted) == 2


def test_a_plan_is_not_kept_while_its_files_may_still_be_written(
    package: Path, kept: KeptPlans, interpreted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SETTLED", 60.0)
    (package / "other.star").write_text('IMAGE = "img:2"\n')
    process(kept, Request.of(package))
    process(kept, Request.of(package))
    assert len(interpreted) == 2


def test_where_a_script_asks_for_services_the_plan_is_for_those_alone(
    package: Path, kept: KeptPlans, interpreted: list[str]
) -> None:
    (package / "main.star").write_text("def run(plan):\n    plan.print(len(plan.get_services()))\n")
    time.sleep(SETTLED * 1.5)
    process(kept, Request.of(package))
    process(kept, Request.of(package))
    assert len(interpreted) == 1
    process(kept, Request.of(package), found={"a": a_config()})
    assert len(interpreted) == 3, "one of them for the config"


def a_config() -> object:
    """The config of a service, as an enclave knows it."""
    plan = Interpretations().interpret(
        Request.of(Source('def run(plan):\n    plan.add_service("a", ServiceConfig(image = "img"))')), Registry()
    )
    return plan.instructions[0].arguments["config"]


def test_passwords_are_not_written_down(tmp_path: Path, kept: KeptPlans) -> None:
    login = 'ImageSpec(image = "img", username = "me", password = "geheim", registry = "https://r.example.com")'
    request = Request.of(Source(f'def run(plan):\n    plan.add_service("a", ServiceConfig(image = {login}))'))
    process(kept, request)
    assert not (tmp_path / "plans").exists()


def test_what_other_repositories_have_is_not_kept(package: Path, kept: KeptPlans, tmp_path: Path) -> None:
    text = (package / "main.star").read_text()
    (package / "main.star").write_text(text.replace("/other.star", "github.com/else/where/other.star"))
    time.sleep(SETTLED * 1.5)

    def resolve(locator: str, _: str) -> Path | None:
        return package / "other.star"

    Interpretations(resolve=resolve).interpret(Request.of(package), Registry(), plans=kept)
    assert not (tmp_path / "plans").exists()


def cut(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:100])


def empty(place: Path) -> None:
    place.write_bytes(b"")


def something_else(place: Path) -> None:
    place.write_bytes(b"\x80\x04K\x01.")


@pytest.mark.parametrize("spoil", [cut, empty, something_else])
def test_what_cannot_be_read_is_made_anew(
    package: Path, kept: KeptPlans, tmp_path: Path, interpreted: list[str], spoil: Callable[[Path], None]
) -> None:
    process(kept, Request.of(package))
    (place,) = (tmp_path / "plans").iterdir()
    spoil(place)
    process(kept, Request.of(package))
    process(kept, Request.of(package))
    assert len(interpreted) == 2


def test_a_place_that_cannot_be_written_is_no_error(package: Path, tmp_path: Path, interpreted: list[str]) -> None:
    kept = KeptPlans(tmp_path / "no" / "such" / "place")
    process(kept, Request.of(package))
    process(kept, Request.of(package))
    assert len(interpreted) == 2


FOUND = Settled("journal", Facts(images={"img:1": "sha256:1"}), (("up", "already done"),), {"a": [1]}, 2)


def made(kept: KeptPlans, request: Request) -> Plan:
    """The plan, made and kept by this process."""
    return Interpretations().interpret(request, Registry(), plans=kept)


def test_what_a_run_found_is_known_with_the_plan_alone(package: Path, tmp_path: Path) -> None:
    first, second = KeptPlans(tmp_path / "plans"), KeptPlans(tmp_path / "plans")
    request = Request.of(package)
    key = f"{request.key} {request.arguments!r}"
    plan = made(first, request)
    assert first.settled(key, plan) is None
    first.settle(key, plan, FOUND)
    assert first.settled(key, plan) == FOUND
    assert second.settled(key, plan) is None, "it has not got that plan from here"
    again = made(second, request)
    assert again == plan
    assert second.settled(key, again) == FOUND
    assert second.settled(key, plan) is None, "equal is not the same"
    assert second.settled(f"{key} another", again) is None


def test_what_was_found_goes_with_the_plan_that_it_was_found_for(package: Path, tmp_path: Path) -> None:
    first = KeptPlans(tmp_path / "plans")
    request = Request.of(package)
    key = f"{request.key} {request.arguments!r}"
    first.settle(key, made(first, request), FOUND)
    (package / "other.star").write_text('IMAGE = "img:2"\n')
    time.sleep(SETTLED * 1.5)
    for _ in range(2):
        later = KeptPlans(tmp_path / "plans")
        assert later.settled(key, made(later, request)) is None


def test_nothing_is_kept_for_a_plan_that_is_not(package: Path, tmp_path: Path) -> None:
    kept = KeptPlans(tmp_path / "plans")
    kept.settle("key", Interpretations().interpret(Request.of(package), Registry()), FOUND)
    assert not (tmp_path / "plans").exists()


def test_the_same_is_not_written_twice(package: Path, tmp_path: Path) -> None:
    kept = KeptPlans(tmp_path / "plans")
    request = Request.of(package)
    key = f"{request.key} {request.arguments!r}"
    plan = made(kept, request)
    kept.settle(key, plan, FOUND)
    (mark,) = (tmp_path / "plans").glob("*-settled")
    before = mark.stat().st_ino
    kept.settle(key, plan, FOUND)
    assert mark.stat().st_ino == before
    kept.settle(key, plan, replace(FOUND, recorded=3))
    assert kept.settled(key, plan) == replace(FOUND, recorded=3)


@pytest.mark.parametrize("room", [name for name in room.ROOMS if not name.endswith(".py")])
def test_what_this_package_makes_of_plans_is_a_version(room_copy: Path, room: str) -> None:
    before = code()
    (room_copy / room / "__pycache__" / "more.pyc").write_text("")
    assert code() == before
    (room_copy / room / "more.py").write_text("")
    assert code() != before


def test_where_our_files_cannot_be_looked_at_nothing_is_kept(
    package: Path, kept: KeptPlans, interpreted: list[str], room_copy: Path
) -> None:
    (room_copy / "errors.py").unlink()
    process(kept, Request.of(package))
    process(kept, Request.of(package))
    assert len(interpreted) == 2


def test_every_file_of_it_counts(room_copy: Path) -> None:
    for path in ("run/reuse.py", "package/git/versions.py", "errors.py", "engine/protocol.py"):
        before = code()
        (room_copy / path).write_text("changed")
        assert code() != before
    before = code()
    (room_copy / "face" / "header.py").write_text("changed")
    assert code() == before, "it makes no plans"


@pytest.fixture
def room_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This package, in a place where it can be changed."""
    copied = Path(shutil.copytree(room.PACKAGE, tmp_path / "copy"))
    for name in room.ROOMS:
        if not name.endswith(".py"):
            (copied / name / "__pycache__").mkdir(exist_ok=True)
    monkeypatch.setattr(room, "PACKAGE", copied)
    return copied


def code() -> str:
    return room._code()
