"""Images that are more than a name, as packages write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.files import unchanged
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Source
from pytest_enclave.plan.image_sources import Build, Login
from pytest_enclave.plan.service import ServiceConfig

Write = Callable[[Mapping[str, str]], Path]

DOCKERFILE = {"images/api/Dockerfile": "FROM scratch\n"}


def adding(image: str) -> str:
    """A main file that adds a service from the image."""
    return f'def run(plan):\n    plan.add_service("s", ServiceConfig(image = {image}))\n'


def building(**arguments: str) -> str:
    given = {"image_name": "shop/api", "build_context_dir": "./images/api", **arguments}
    return "ImageBuildSpec(" + ", ".join(f'{name} = "{value}"' for name, value in given.items()) + ")"


def config_of(plan: Any) -> ServiceConfig:
    """The config of the plan's first service."""
    return ServiceConfig.of(plan.instructions[0].get("config"))


def refusal(plan_of: Callable[..., Any], package: Any) -> InterpretationError:
    with pytest.raises(InterpretationError) as caught:
        plan_of(package)
    return caught.value


@pytest.mark.parametrize("locator", ["images/api", "./images/api", "/images/api", "./images/api/"])
def test_a_build_knows_where_its_context_is(plan_of: Callable[..., Any], tmp_path: Path, locator: str):
    main = adding(building(build_context_dir=locator))
    source = config_of(plan_of({"main.star": main, **DOCKERFILE})).image_source
    assert isinstance(source, Build)
    assert (source.title, source.directory) == ("shop/api", f"{tmp_path.resolve()}/images/api")
    assert source.place.rstrip("/").endswith("images/api")
    assert (source.build_file, source.target, source.arguments) == ("Dockerfile", "", {})


def test_a_build_has_everything_that_is_said_of_it(plan_of: Callable[..., Any]):
    spec = 'ImageBuildSpec("shop/api", "images/api", "docker/Api", "run", {"VERSION": "1"})'
    source = config_of(plan_of({"main.star": adding(spec), "images/api/docker/Api": ""})).image_source
    assert isinstance(source, Build)
    assert (source.build_file, source.target, source.arguments) == ("docker/Api", "run", {"VERSION": "1"})


def test_the_name_of_the_image_changes_with_its_files(plan_of: Callable[..., Any]):
    files = {"main.star": adding(building()), **DOCKERFILE, "images/api/app": "1"}
    before = config_of(plan_of(files)).image
    assert config_of(plan_of(files)).image == before
    assert config_of(plan_of({**files, "images/api/app": "2"})).image != before


def test_a_locator_is_relative_to_the_file_that_has_it(plan_of: Callable[..., Any]):
    config = f"def config():\n    return ServiceConfig(image = {building(build_context_dir='.')})\n"
    main = """
a = import_module("/a/a.star")
b = import_module("/b/b.star")

def run(plan):
    plan.add_services({"a": a.config(), "b": b.config()})
"""
    files = {"a/a.star": config, "b/b.star": config, "a/Dockerfile": "FROM a", "b/Dockerfile": "FROM b"}
    configs = plan_of({"main.star": main, **files}).instructions[0].get("configs")
    a, b = (ServiceConfig.of(config).image_source for config in configs.values())
    assert (a.place, b.place) == ("a", "b")
    assert a.digest != b.digest


def test_a_plan_is_interpreted_anew_when_a_context_has_changed(write: Write):
    root = write({"main.star": adding(building()), **DOCKERFILE, "images/api/app": "1"})
    found = interpret(load(root), built_in(), {})
    assert unchanged(found.files)
    (root / "images/api/more").write_text("")
    assert not unchanged(found.files)


def test_what_interpretation_adds_is_neither_in_texts_nor_seen_by_the_script(plan_of: Callable[..., Any]):
    returned = "[dir(spec), json.encode(spec), spec]"
    main = f"def run(plan):\n    spec = {building()}\n    plan.print(spec)\n    return {returned}\n"
    plan = plan_of({"main.star": main, **DOCKERFILE})
    assert plan.output[0] == ["build_context_dir", "image_name"]
    assert plan.output[1] == '{"build_context_dir":"./images/api","image_name":"shop/api"}'
    text = 'ImageBuildSpec(image_name="shop/api", build_context_dir="./images/api")'
    assert plan.instructions[0].text == f"print(msg={text})"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (building(build_context_dir="./nothing"), "ImageBuildSpec: `./nothing` does not exist in package"),
        (building(build_context_dir="../other"), "ImageBuildSpec: `../other` leads out of the package, above its root"),
        (building(build_context_dir="main.star"), "ImageBuildSpec: `main.star` is not a directory"),
        (building(build_file="Api"), "ImageBuildSpec: `Api` does not exist in `images/api`"),
        (building(build_file="../../main.star"), "ImageBuildSpec: `../../main.star` leads out of `images/api`"),
        (building(image_name=""), "ImageBuildSpec: `image_name` must be a non-empty string"),
        (building(target_stage=""), "ImageBuildSpec: `target_stage` must be a non-empty string"),
        ('ImageBuildSpec("a", ".", build_args = {"A": 1})', "ImageBuildSpec: `build_args[\"A\"]` must be a string"),
        ('ImageBuildSpec(image_name = "a")', "ImageBuildSpec: `build_context_dir` is missing"),
        ('ImageSpec(image = "")', "ImageSpec: `image` must be a non-empty string"),
        ('ImageSpec(image = "a", registry = "")', "ImageSpec: `registry` must be a non-empty string"),
        ('ImageSpec(image = "a", username = "")', "ImageSpec: `username` must be a non-empty string"),
        ('ImageSpec(image = "a", password = "")', "ImageSpec: `password` must be a non-empty string"),
        ('ImageSpec(image = "a", username = "ann")', "ImageSpec: `username` is of no use without `password`"),
        ("ImageSpec()", "ImageSpec: `image` is missing"),
        ('NixBuildSpec("f")', "NixBuildSpec: `build_context_dir` is missing; `image_name` is missing"),
        ('"pytest-enclave-step:1"', "ServiceConfig: `image` must not begin with `pytest-enclave-step`: so begin"),
        ('ImageSpec("docker.io/pytest-enclave-build/a:1")', "ImageSpec: `image` must not begin with `pytest-enclave-"),
        ("PortSpec(number = 1)", "ServiceConfig: `image` must be the name of an image, or one of ImageSpec, "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(plan_of: Callable[..., Any], image: str, message: str):
    error = refusal(plan_of, {"main.star": adding(image), **DOCKERFILE})
    assert error.message.startswith(message)
    column = 40 if message.startswith("ServiceConfig") else 49 + len(image.partition("(")[0])
    assert str(error.location) == f"main.star:2:{column}"


def test_a_line_of_what_is_ignored_that_means_nothing_is_told(plan_of: Callable[..., Any]):
    error = refusal(plan_of, {"main.star": adding(building()), **DOCKERFILE, "images/api/.dockerignore": "a\n[z-a]\n"})
    assert error.message == (
        "ImageBuildSpec: images/api/.dockerignore:2:1: `[z-a]` is no pattern: `z-a` runs backwards"
    )


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd"])
@pytest.mark.parametrize("file", ["Dockerfile", ".dockerignore"])
def test_a_context_whose_files_lead_out_is_refused(write: Write, target: str, file: str):
    root = write({"main.star": adding(building()), "images/api/app": "", "images/api/Dockerfile": ""})
    (root / "images/api" / file).unlink(missing_ok=True)
    (root / "images/api" / file).symlink_to(target)
    with pytest.raises(InterpretationError) as caught:
        interpret(load(root), built_in(), {})
    assert caught.value.message == f"ImageBuildSpec: `{file}` leads out of `images/api`, to {target}"


def test_links_out_of_the_package_are_refused(plan_of: Callable[..., Any], write: Write, tmp_path: Path):
    root = write({"main.star": adding(building(build_context_dir="link"))})
    (root / "link").symlink_to("/")
    error = refusal(plan_of, {"main.star": adding(building(build_context_dir="link"))})
    assert "leads out of package `github.com/test/package`, to /" in error.message


def test_a_script_that_stands_alone_has_no_context(plan_of: Callable[..., Any]):
    error = refusal(plan_of, adding(building()))
    assert error.message == (
        "ImageBuildSpec: `./images/api` is a relative locator, but script `<source>` is not part of a package"
    )
    assert error.remedy == "relative locators need a `kurtosis.yml` with a `name` beside or above the script"


def test_credentials_travel_with_the_image(plan_of: Callable[..., Any]):
    spec = 'ImageSpec(image = "shop/api", registry = "r.example:5000", username = "ann", password = "s3cret")'
    config = config_of(plan_of(adding(spec)))
    assert config.image == "r.example:5000/shop/api"
    assert config.image_source == Login("r.example:5000", "ann", "s3cret")


def test_credentials_are_not_in_an_instructions_text(plan_of: Callable[..., Any]):
    spec = 'ImageSpec(image = "shop/api", username = "ann", password = "s3cret")'
    assert "s3cret" not in plan_of(adding(spec)).instructions[0].text


def test_the_fields_of_specs_can_be_read(plan_of: Callable[..., Any]):
    main = (
        'def run(plan):\n    a = ImageSpec("a", "r.example")\n    n = NixBuildSpec("f", "c", "n", "o")\n'
        '    return [type(a), a.registry, hasattr(a, "password"), type(n), n.flake_output]\n'
    )
    assert plan_of(main).output == ["ImageSpec", "r.example", False, "NixBuildSpec", "o"]


@pytest.mark.parametrize("task", ["run_sh(run = ", "run_python(run = "])
def test_tasks_take_every_kind_of_image(plan_of: Callable[..., Any], task: str):
    main = f'def run(plan):\n    plan.{task}"x", image = {building()})\n'
    plan = plan_of({"main.star": main, **DOCKERFILE})
    (call,) = plan.instructions
    kind = next(kind for kind in built_in() if kind.name == call.name)
    (config,) = kind.configs(call).values()
    assert isinstance(config.image_source, Build)
    assert kind.footprint(call).images == {config.image_source.name}


def test_a_text_of_a_test_has_no_files(plan_of: Callable[..., Any]):
    with pytest.raises(InterpretationError, match="is not part of a package"):
        interpret(load(Source(adding(building(build_context_dir="/")))), built_in(), {})
