"""Images that are files of the package: found as any other file of it, and never outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.files import unchanged
from pytest_enclave.package.load import load

Write = Callable[[Mapping[str, str]], Path]


def adding(image: str) -> str:
    """A main file that adds a service from the image."""
    return f'def run(plan):\n    plan.add_service("s", ServiceConfig(image = "{image}"))\n'


def image_of(plan: Any) -> str:
    """The image of the plan's first service."""
    return str(plan.instructions[0].get("config").fields["image"])


@pytest.mark.parametrize("locator", ["images/app.tar", "./images/app.tar", "/images/app.tar"])
def test_an_archive_is_named_by_where_it_is(plan_of: Callable[..., Any], tmp_path: Path, locator: str) -> None:
    plan = plan_of({"main.star": adding(f"docker-archive:{locator}"), "images/app.tar": ""})
    assert image_of(plan) == f"docker-archive:{tmp_path.resolve()}/images/app.tar"


def test_a_layout_is_a_directory(plan_of: Callable[..., Any], tmp_path: Path) -> None:
    plan = plan_of({"main.star": adding("oci:app"), "app/index.json": "{}"})
    assert image_of(plan) == f"oci:{tmp_path.resolve()}/app"
    plan = plan_of({"main.star": adding("oci:./app:v1.2"), "app/index.json": "{}"})
    assert image_of(plan) == f"oci:{tmp_path.resolve()}/app:v1.2"


def test_a_locator_is_relative_to_the_file_that_has_it(plan_of: Callable[..., Any], tmp_path: Path) -> None:
    config = 'def config():\n    return ServiceConfig(image = "docker-archive:app.tar")\n'
    main = """
a = import_module("/a/a.star")
b = import_module("/b/b.star")

def run(plan):
    plan.add_services({"a": a.config(), "b": b.config()})
"""
    files = {"main.star": main, "a/a.star": config, "b/b.star": config, "a/app.tar": "", "b/app.tar": ""}
    configs = plan_of(files).instructions[0].get("configs")
    root = tmp_path.resolve()
    assert [config.fields["image"] for config in configs.values()] == [
        f"docker-archive:{root}/a/app.tar",
        f"docker-archive:{root}/b/app.tar",
    ]


def test_run_sh_takes_one_too(plan_of: Callable[..., Any], tmp_path: Path) -> None:
    main = 'def run(plan):\n    plan.run_sh(run = "true", image = "docker-archive:app.tar")\n'
    (call,) = plan_of({"main.star": main, "app.tar": ""}).instructions
    assert call.get("image") == f"docker-archive:{tmp_path.resolve()}/app.tar"


@pytest.mark.parametrize("image", ["host:/", "registry:5000/docker-archive:1", "docker-archive", "redis:7"])
def test_other_names_stay_as_they_are(plan_of: Callable[..., Any], image: str) -> None:
    assert image_of(plan_of({"main.star": adding(image)})) == image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("docker-archive:../app.tar", "`../app.tar` leads out of the package, above its root"),
        ("docker-archive:/../../etc/passwd", "`/../../etc/passwd` leads out of the package, above its root"),
        ("docker-archive:link.tar", "`link.tar` leads out of package `github.com/test/package`, to "),
        ("docker-archive:up.tar", "`up.tar` does not exist in package `github.com/test/package`"),
        ("docker-archive:", "the locator is an empty string"),
        ("docker-archive:layout", "`layout` is not a file, as `docker save` writes it"),
        ("oci:app.tar", "`app.tar` is not a directory with an OCI image layout: it has no `index.json`"),
        ("oci:empty", "`empty` is not a directory with an OCI image layout: it has no `index.json`"),
    ],
)
def test_what_is_no_archive_of_the_package_is_an_error_with_its_place(write: Write, image: str, message: str) -> None:
    root = write({"main.star": adding(image), "app.tar": "", "layout/index.json": "{}", "empty/file": ""})
    os.symlink("/etc/passwd", root / "link.tar")
    with pytest.raises(InterpretationError) as caught:
        interpret(load(root), built_in(), {})
    assert caught.value.message.startswith(f"ServiceConfig: `image`: {message}")
    assert str(caught.value.location) == "main.star:2:40"


def test_the_other_kind_is_the_remedy(write: Write) -> None:
    root = write({"main.star": adding("docker-archive:layout"), "layout/index.json": "{}"})
    with pytest.raises(InterpretationError) as caught:
        interpret(load(root), built_in(), {})
    assert caught.value.remedy == "`oci:` names a directory with an OCI image layout"


def test_a_text_that_stands_alone_has_no_archives(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(InterpretationError, match=r"`app\.tar` is a relative locator, but script `<source>`"):
        plan_of(adding("docker-archive:app.tar"))


def test_an_archive_that_changes_is_looked_at_again(write: Write) -> None:
    root = write({"main.star": adding("docker-archive:app.tar"), "app.tar": ""})
    files = interpret(load(root), built_in(), {}).files
    assert unchanged(files)
    (root / "app.tar").write_text("another")
    assert not unchanged(files)
