"""Images that are more than a name, taken through the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import Problem, ValidationError
from pytest_enclave.plan.events import BuildProgress, Emit, Warned
from pytest_enclave.plan.image_sources import Build
from pytest_enclave.run.pipeline import Options
from tests.laboratory import Laboratory

API = 'ImageBuildSpec(image_name = "shop/api", build_context_dir = "./api")'
ADD = f'plan.add_service("api", ServiceConfig(image = {API}))'
NIX = 'NixBuildSpec(flake_location_dir = ".", build_context_dir = ".", image_name = "shop/nix")'


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str, Mapping[str, str]], Path]:
    """Write a package: statements of its `run`, and changed files."""
    root = tmp_path / "package"

    def write(body: str, files: Mapping[str, str] | None = None) -> Path:
        main = "def run(plan):\n" + "".join(f"    {line}\n" for line in body.splitlines())
        all_files = {"kurtosis.yml": "name: github.com/test/package\n", "main.star": main, "api/Dockerfile": "FROM a\n"}
        for name, text in {**all_files, **(files or {})}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return write


def builds(lab: Laboratory) -> list[str]:
    return [event.image for event in lab.events if isinstance(event, BuildProgress) and event.done]


def untouched(lab: Laboratory) -> bool:
    return {call.method for call in lab.engine.sites["lab-0"].calls} <= {"observe"}


def test_an_image_is_built_before_anything_starts(lab: Laboratory, package):
    run = lab.ok(package(ADD))
    assert builds(lab) == ["shop/api"]
    (record,) = lab.state.journal.records.values()
    ((name, digest),) = record.images.items()
    assert name.startswith("pytest-enclave-build/shop-api:")
    assert digest.startswith("sha256:")
    assert lab.state.site.observe()["api"].image == digest
    assert run.instructions[0].instruction.text.endswith('image_name="shop/api", build_context_dir="./api")))')


def test_a_second_run_neither_builds_nor_starts(lab: Laboratory, package):
    lab.ok(package(ADD))
    lab.events.clear()
    assert lab.outcomes(package(ADD)) == ["skipped"]
    assert builds(lab) == []


def test_a_changed_file_builds_anew_and_replaces_the_service_in_place(lab: Laboratory, package):
    lab.ok(package(ADD + '\nplan.add_service("db", ServiceConfig(image = "db"))'))
    changed = package(ADD + '\nplan.add_service("db", ServiceConfig(image = "db"))', {"api/app": "new"})
    assert lab.outcomes(changed) == ["updated", "skipped"]
    assert builds(lab) == ["shop/api", "shop/api"]


def test_changed_build_arguments_build_anew(lab: Laboratory, package):
    lab.ok(package(ADD))
    other = ADD.replace('"./api"', '"./api", build_args = {"VERSION": "2"}')
    assert lab.outcomes(package(other)) == ["updated"]
    assert builds(lab) == ["shop/api", "shop/api"]


def test_what_is_ignored_changes_nothing(lab: Laboratory, package):
    files = {"api/.dockerignore": "*.md\n", "api/notes.md": "1"}
    lab.ok(package(ADD, files))
    assert lab.outcomes(package(ADD, {**files, "api/notes.md": "2"})) == ["skipped"]


def test_services_of_one_context_share_its_image(lab: Laboratory, package):
    two = f'plan.add_services({{"a": ServiceConfig(image = {API}), "b": ServiceConfig(image = {API})}})'
    lab.ok(package(two + f'\nplan.run_sh(run = "true", image = {API})'))
    assert builds(lab) == ["shop/api"]


def test_only_the_changed_service_of_a_batch_is_replaced(lab: Laboratory, package):
    other = API.replace("./api", "./other")
    batch = f'plan.add_services({{"a": ServiceConfig(image = {API}), "b": ServiceConfig(image = {other})}})'
    files = {"other/Dockerfile": "FROM b\n"}
    lab.ok(package(batch, files))
    lab.engine.sites["lab-0"].calls.clear()
    assert lab.outcomes(package(batch, {**files, "api/app": "new"})) == ["updated"]
    started = [call.details for call in lab.engine.sites["lab-0"].calls if call.method == "start"]
    assert len(started) == 1
    assert "'a'" in str(started)
    assert "'b'" not in str(started)


def test_always_builds_again(laboratory: Callable[..., Laboratory], package):
    lab = laboratory()
    lab.options = Options(seed=1, pull=PullPolicy.ALWAYS)
    lab.ok(package(ADD))
    lab.ok(package(ADD + '\nplan.add_service("b", ServiceConfig(image = "b"))'))
    assert builds(lab) == ["shop/api"], "what is skipped needs no image"
    lab.ok(package(ADD.replace('"api",', '"c",')))
    assert builds(lab) == ["shop/api", "shop/api"]


def test_images_that_cannot_be_built_are_told_together_with_those_that_cannot_be_pulled(
    laboratory: Callable[..., Laboratory], package
):
    lab = laboratory(Script().build("shop/api", fails="the compiler gave up").image("far", missing="denied"))
    error = lab.error(package(ADD + '\nplan.run_sh(run = "true", image = "far")'))
    assert type(error) is ValidationError
    assert [(str(p.location), p.subject, p.message, p.remedy) for p in error.problems] == [
        (
            "main.star:2:21",
            'add_service("image `shop/api`")',
            "image `shop/api` cannot be built: the compiler gave up",
            "let the script of the simulated engine build it",
        ),
        (
            "main.star:3:16",
            'run_sh("image `far`")',
            "image `far` cannot be had: denied",
            "correct its name, or let the script of the simulated engine have it",
        ),
    ]
    assert untouched(lab)


def test_nothing_is_built_for_a_plan_that_cannot_work(lab: Laboratory, package):
    lab.error(package(ADD + '\nplan.stop_service("nobody")'))
    assert builds(lab) == []


def test_what_only_execution_knows_cannot_be_built_with(lab: Laboratory, package):
    later = API.replace('"./api"', '"./api", build_args = {"IP": db.ip_address}')
    database = 'db = plan.add_service("db", ServiceConfig(image = "db"))'
    body = f'{database}\nplan.add_service("api", ServiceConfig(image = {later}))'
    (problem,) = lab.error(package(body)).problems
    assert (problem.message, problem.remedy) == (
        "image `shop/api` is built before anything is executed, and is given a value that is known only afterwards",
        "leave it out of `build_args`, and pass it in `env_vars`",
    )


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (f'plan.add_service("s", ServiceConfig(image = {NIX}))', "<source>:2:21"),
        (f'plan.add_services({{"s": ServiceConfig(image = {NIX})}})', "<source>:2:22"),
        (f'plan.run_sh(run = "true", name = "s", image = {NIX})', "<source>:2:16"),
        (f'plan.run_python(run = "1", name = "s", image = {NIX})', "<source>:2:20"),
    ],
)
def test_nix_is_refused_at_its_place(lab: Laboratory, body: str, place: str):
    (problem,) = lab.error(body).problems
    assert str(problem.location) == place
    assert (problem.message, problem.remedy) == (
        "image `shop/nix` would have to be built by Nix, which is not supported",
        "let CI build the image and write its name, or write a Dockerfile and `ImageBuildSpec(…)`",
    )
    assert untouched(lab)


def test_credentials_reach_the_engine_for_their_image_alone(lab: Laboratory, monkeypatch: pytest.MonkeyPatch):
    given = {}
    resolve = lab.engine.resolve_images

    def spy(references, policy, emit, logins):
        given.update(logins)
        return resolve(references, policy, emit, logins)

    monkeypatch.setattr(lab.engine, "resolve_images", spy)
    spec = 'ImageSpec(image = "r.example/a", username = "ann", password = "s3cret")'
    lab.ok(f'plan.add_service("a", ServiceConfig(image = {spec}))\nplan.add_service("b", ServiceConfig(image = "b"))')
    assert {name: (login.registry, login.password) for name, login in given.items()} == {
        "r.example/a": ("r.example", "s3cret")
    }


def test_other_credentials_are_no_reason_to_run_again(lab: Laboratory):
    body = 'plan.add_service("a", ServiceConfig(image = ImageSpec("r.example/a", username = "ann", password = "{}")))'
    lab.ok(body.format("s3cret-1"))
    assert lab.outcomes(body.format("s3cret-2")) == ["skipped"]


def test_what_is_odd_about_a_build_is_warned_of_where_the_image_is_said(
    laboratory: Callable[[], Laboratory], package, monkeypatch: pytest.MonkeyPatch
):
    lab = laboratory()

    def build_images(builds: Iterable[Build], _: PullPolicy, emit: Emit) -> Mapping[str, str]:
        for build in builds:
            message = f"`A` is not used in {build.place}"
            emit(Warned(Problem(message, subject=build.name, severity="warning")))
        emit(Warned(Problem("it is late", subject="the engine", severity="warning")))
        return {build.name: "sha256:1" for build in builds}

    monkeypatch.setattr(lab.engine, "build_images", build_images)
    other = ADD.replace("./api", "./other").replace('"api"', '"other"')
    lab.ok(package(f"x = 1\n{ADD}\n{other}", {"other/Dockerfile": "FROM b\n"}))
    told = [event.problem for event in lab.events if isinstance(event, Warned)]
    assert [(each.message, each.subject, str(each.location)) for each in told] == [
        ("`A` is not used in api", 'add_service("shop/api")', "main.star:3:21"),
        ("`A` is not used in other", 'add_service("shop/api")', "main.star:4:21"),
        ("it is late", "the engine", "None"),
    ]
